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
    from byollm.server.adapters import AdapterStore
    from byollm.server.parameters import Drawing
    from byollm.server.sentences import SentenceModel
    from byollm.settings.engine import EngineSettings
    from byollm.settings.server import ServerSettings


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        engine: what runs it.
        tokenizer: the model's own.
        defaults: how its tokens are drawn where a request does not say.
        sentences: what embeds instead of it, if anything does.
        adapters: what requests may ask for instead of the model as it is.
    """

    engine: AsyncEngine
    tokenizer: Tokenizer
    defaults: Drawing
    sentences: SentenceModel | None
    adapters: AdapterStore

    @property
    def info(self) -> EngineInfo:
        """What the engine is."""
        return self.engine.info

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and answer together that context and cache hold."""
        return min(self.engine.info.limits.context, self.engine.info.limits.cache_tokens)


async def load_model(directory: Path, settings: EngineSettings, server: ServerSettings, name: str) -> Model:
    """Load a model directory in Hugging Face's layout, and start its engine in a process of its own.

    A sentence model and adapters are loaded beside it if the server's settings name them.

    Args:
        directory: of the model.
        settings: of its engine.
        server: names what is served beside it.
        name: the model's own.

    Raises:
        ByollmError: the directory, the settings or the machine do not allow it; the message says which.
    """
    from byollm.engine import AsyncEngine
    from byollm.engine.engine_process import EngineProcess
    from byollm.server.adapters import AdapterStore
    from byollm.server.defaults import load_defaults
    from byollm.server.sentences import SentenceModel

    defaults = load_defaults(directory)
    engine = AsyncEngine(EngineProcess(directory, settings), settings.stall_seconds)

    def load_rest() -> tuple[Tokenizer, SentenceModel | None]:
        from byollm.modeling import Tokenizer  # slow to import, and the socket is to listen before

        sentences = None if server.embedding_model is None else SentenceModel.load(server.embedding_model)
        return Tokenizer.load(directory), sentences

    rest = asyncio.create_task(asyncio.to_thread(load_rest))
    try:
        await engine.start()  # its complaint comes first: it looks at the whole directory
        tokenizer, sentences = await rest
        taken = {name} if sentences is None else {name, sentences.name}
        adapters = AdapterStore(engine, adapter_directory(directory, server), frozenset(taken))
        await adapters.start(server.named_adapters)
        return Model(engine, tokenizer, defaults, sentences, adapters)
    except BaseException:
        rest.cancel()
        await engine.stop(timeout=0)
        raise


def adapter_directory(model: Path, server: ServerSettings) -> Path | None:
    """Return the directory that adapters may come from; None if there is none."""
    if server.adapters is not None:
        return server.adapters
    beside = model / "adapters"
    return beside if beside.is_dir() else None
