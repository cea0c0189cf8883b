"""The model being served: the engine, and what the routes have to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from byollm.server.errors import ServerError

if TYPE_CHECKING:  # these bring torch, and the socket is to listen before that is loaded
    from pathlib import Path

    from byollm.engine import AsyncEngine
    from byollm.engine.grammar import GrammarCompiler
    from byollm.modeling import Decoder, DecoderConfig, Tokenizer
    from byollm.server.parameters import Drawing
    from byollm.server.sentences import SentenceModel
    from byollm.settings.engine import EngineSettings


@dataclass(frozen=True)
class Model:
    """A loaded model and the engine that runs it.

    Attributes:
        engine: not yet started.
        tokenizer: the model's own.
        decoder: the model itself, for what the engine's thread does beside its steps.
        grammars: compiles grammars for its vocabulary.
        config: its shape.
        defaults: how its tokens are drawn where a request does not say.
        max_context: most tokens of prompt and answer together that context and cache hold.
        dtype: the type of its weights, such as `float32`.
        device: where it runs, such as `cpu`.
        sentences: what embeds instead of it, if anything does.
        read_chunk: most tokens to read at once between two of the engine's steps.
    """

    engine: AsyncEngine
    tokenizer: Tokenizer
    decoder: Decoder
    grammars: GrammarCompiler
    config: DecoderConfig
    defaults: Drawing
    max_context: int
    dtype: str
    device: str
    sentences: SentenceModel | None
    read_chunk: int


def load_model(directory: Path, settings: EngineSettings, embedding_model: Path | None = None) -> Model:
    """Load a model directory in Hugging Face's layout, and beside it a sentence model if one is named.

    Raises:
        ByollmError: the directory, the settings or the machine do not allow it; the message says which.
    """
    from byollm.engine import AsyncEngine, Engine
    from byollm.engine.grammar import GrammarCompiler
    from byollm.server.defaults import load_defaults
    from byollm.server.sentences import SentenceModel

    defaults = load_defaults(directory)
    sentences = None if embedding_model is None else SentenceModel.load(embedding_model)
    engine = Engine.load(directory, settings)
    if engine.tokenizer is None:
        raise ServerError(f"{directory} has no tokenizer: save one beside the weights")
    decoder = engine.runner.decoder
    weight = decoder.head_weight
    return Model(
        engine=AsyncEngine(engine, settings.stall_seconds),
        tokenizer=engine.tokenizer,
        decoder=decoder,
        grammars=GrammarCompiler(engine.tokenizer, decoder.config.vocab_size),
        config=decoder.config,
        defaults=defaults,
        max_context=min(engine.max_context, engine.limits.cache_tokens),
        dtype=str(weight.dtype).removeprefix("torch."),
        device=str(weight.device),
        sentences=sentences,
        read_chunk=settings.max_batch_tokens,
    )
