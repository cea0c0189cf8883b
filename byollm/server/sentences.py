"""A sentence model for embeddings: sentence-transformers, in a thread of its own beside the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from byollm.server.errors import ServerError

if TYPE_CHECKING:  # brings torch, and the socket is to listen before that is loaded
    from sentence_transformers import SentenceTransformer

T = TypeVar("T")

MOST_BATCH_TOKENS = (
    8192  # computed at once, padding included; bounds memory, and what a client that left costs
)


class SentenceModel:
    """A loaded sentence model.

    One thread does all its work, batch by batch, on one core: the others are the engine's. How many requests
    wait for it is bounded by the server's admission.

    Args:
        name: what clients call it.
        model: the library's model.
        dimensions: of its embeddings.
    """

    def __init__(self, name: str, model: SentenceTransformer, dimensions: int) -> None:
        self.name = name
        self.dimensions = dimensions
        self.max_tokens: int | None = model.max_seq_length
        self._model = model
        self._prefix: str = model.prompts.get(model.default_prompt_name or "") or ""
        self._thread = ThreadPoolExecutor(1, "byollm-sentences", initializer=_take_one_core)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Load a directory in sentence-transformers' layout.

        Raises:
            ServerError: the library is missing, or the directory holds no model that it can load.
        """
        if not (directory / "modules.json").is_file():
            raise ServerError(
                f"server.embedding_model: {directory} is no sentence model: it has no modules.json. Expected "
                "sentence-transformers' layout, as its save_pretrained writes it"
            )
        try:
            from sentence_transformers import SentenceTransformer
        except ModuleNotFoundError as error:
            if error.name != "sentence_transformers":
                raise
            raise ServerError(
                "server.embedding_model needs the library sentence-transformers: "
                "pip install 'byollm[sentence]', or sentence-transformers itself"
            ) from None
        try:
            model = SentenceTransformer(str(directory), local_files_only=True)
            model.tokenizer(["text"], truncation=False)
            dimensions = model.encode(["text"], show_progress_bar=False).shape[1]
        except Exception as error:  # the library raises whatever its parts raise
            raise ServerError(
                f"server.embedding_model: {directory} cannot be loaded by sentence-transformers ({error})"
            ) from error
        return cls(directory.resolve().name, model, dimensions)

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text the model reads, those that it puts around a text included."""
        return await self._run(partial(self._count, [self._prefix + text for text in texts]))

    async def embed(self, texts: Sequence[str], counts: Sequence[int]) -> list[bytes]:
        """Return the embedding of each text, as little-endian float32 numbers.

        Args:
            texts: what to embed.
            counts: how many tokens each has.
        """
        vectors: list[bytes] = [b""] * len(texts)
        for batch in batches(counts):
            rows = await self._run(partial(self._embed, [texts[index] for index in batch]))
            for index, row in zip(batch, rows, strict=True):
                vectors[index] = row
        return vectors

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _count(self, texts: list[str]) -> list[int]:
        tokenized: Any = self._model.tokenizer(texts, truncation=False, verbose=False)
        return [len(tokens) for tokens in tokenized["input_ids"]]

    def _embed(self, texts: list[str]) -> list[bytes]:
        rows = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False)
        return [row.astype("<f4").tobytes() for row in rows]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group texts by their lengths, so that little is padded; yields their indices, short ones first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > MOST_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _take_one_core() -> None:
    import torch

    torch.set_num_threads(1)
