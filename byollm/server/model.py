"""The model being served: its engine, and what the routes have to know about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from byollm.engine import AsyncEngine
    from byollm.engine.messages import EngineInfo
    from byollm.modeling import Tokenizer
    from byollm.server.parameters import Drawing
    from byollm.server.sentences import SentenceModel
    from byollm.settings.engine import EngineSettings


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        engine: what runs it.
        tokenizer: the model's own.
        defaults: how its tokens are drawn where a request does not say.
        sentences: what embeds instead of it, if anything does.
    """

    engine: AsyncEngine
    tokenizer: Tokenizer
    defaults: Drawing
    sentences: SentenceModel | None

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return self.engine.info

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and answer together that context and cache hold."""
        return min(self.engine.info.limits.context, self.engine.info.limits.cache_tokens)


async def load_model(directory: Path, settings: EngineSettings, embedding_model: Path | None = None) -> Model:
    """Load a model directory in Hugging Face's layout, and start its engine in a process of its own.

    A sentence model is loaded beside it if one is named.

    Raises:
        ByollmError: the directory, the settings or the machine do not allow it; the message says which.
    """
    from byollm.engine import AsyncEngine
    from byollm.engine.engine_process import EngineProcess
    from byollm.server.defaults import load_defaults
    from byollm.server.sentences import SentenceModel

    defaults = load_defaults(directory)
    engine = AsyncEngine(EngineProcess(directory, settings), settings.stall_seconds)

    def load_rest() -> tuple[Tokenizer, SentenceModel | None]:
        from byollm.modeling import Tokenizer  # slow to import, and the socket is to listen before

        sentences = None if embedding_model is None else SentenceModel.load(embedding_model)
        return Tokenizer.load(directory), sentences

    rest = asyncio.create_task(asyncio.to_thread(load_rest))
    try:
        await engine.start()  # its complaint comes first: it looks at the whole directory
        tokenizer, sentences = await rest
        return Model(engine, tokenizer, defaults, sentences)
    except BaseException:
        rest.cancel()
        await engine.stop(timeout=0)
        raise
