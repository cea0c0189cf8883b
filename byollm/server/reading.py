"""Texts that the model reads without answering: log-probabilities of prompts, and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from byollm.engine import TokenLogprobs
from byollm.engine.errors import AdmissionError
from byollm.server.errors import ApiError
from byollm.server.model import Model


def check_readable(model: Model, tokens: Sequence[int], param: str) -> None:
    """Refuse what the model cannot read.

    Raises:
        ApiError: there are no tokens, too many, or some outside the vocabulary.
    """
    try:
        model.engine.engine.limits.check_readable(tokens)
    except AdmissionError as error:
        message = f"Invalid value for '{param}': {str(error).removeprefix('prompt: ')}."
        raise ApiError(400, message, param=param, code="invalid_value") from None


async def score(model: Model, tokens: Sequence[int], top: int) -> list[TokenLogprobs]:
    """Return the log-probabilities of each token but the first, with the `top` most probable in its place."""
    from byollm.engine.reader import Scoring  # brings torch, which is loaded by now

    scoring = Scoring(model.decoder, tokens, model.read_chunk, top)
    while not scoring.finished:
        await model.engine.between_steps(scoring.advance)
    return scoring.logprobs


async def embed(model: Model, texts: Sequence[Sequence[int]]) -> list[bytes]:
    """Return the embedding of each text, as little-endian float32 numbers."""
    from byollm.engine.reader import Embedding, embed_together, group_by_length

    vectors: list[bytes] = [b""] * len(texts)
    for group in group_by_length(list(map(len, texts)), model.read_chunk):
        if len(texts[group[-1]]) > model.read_chunk:
            embedding = Embedding(model.decoder, texts[group[0]], model.read_chunk)
            while not embedding.finished:
                await model.engine.between_steps(embedding.advance)
            rows = embedding.vector[None]
        else:
            together = partial(embed_together, model.decoder, [texts[index] for index in group])
            rows = await model.engine.between_steps(together)
        for index, row in zip(group, rows.numpy().astype("<f4"), strict=True):
            vectors[index] = row.tobytes()
    return vectors
