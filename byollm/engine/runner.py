"""What computes a step: the compiled CPU kernels where they can, torch everywhere else."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from byollm.engine.errors import EngineError
from byollm.engine.kv_cache import KVCache
from byollm.engine.model_runner import ModelRunner
from byollm.engine.native_runner import NativeRunner
from byollm.engine.pieces import Piece
from byollm.engine.scheduler import Chunk
from byollm.kernels.cpu import Precision, load_library
from byollm.modeling import Adapter, Decoder, DecoderConfig
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.settings.engine import EngineSettings

LOADING_GROUP = 32
"""Weights that share a scale where `engine.quantization` rounds at loading."""


class Cache(Protocol):
    """Keys and values of texts, in blocks."""

    def clear(self, blocks: list[int], start: int = 0) -> None:
        """Zero some blocks, the first from token `start` on, so that non-finite numbers reach nobody."""


C = TypeVar("C", bound=Cache)


class Runner(Protocol[C]):
    """Runs the decoder on the chunks of a step, and beside the steps on texts that are only read.

    Attributes:
        config: the shape of the decoder.
        dtype: the type of its weights, before they were packed.
        device: where it runs.
        cache: where it keeps keys and values of all sequences.
    """

    config: DecoderConfig
    dtype: torch.dtype
    device: torch.device
    cache: C

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute the chunks into the cache; return float32 logits (rows of all chunks, vocab), in order.

        They may be overwritten by the next run.
        """

    def set_adapter(self, slot: int, adapter: Adapter | None) -> None:
        """Put an adapter into a slot, in the place of what stands there; None empties it."""

    def new_cache(self, num_blocks: int) -> C:
        """Return a cache beside the runner's own, for texts that are only read."""

    def read_hidden(self, pieces: Sequence[Piece], cache: C) -> Tensor:
        """Compute texts into a cache; return float32 final hidden states, (tokens of all pieces, hidden)."""

    def read_logits(self, pieces: Sequence[Piece], cache: C) -> Tensor:
        """Compute texts into a cache; return float32 logits, (tokens of all pieces, vocab)."""


def spare_threads(runner: Runner[Any]) -> None:
    """Have torch compute on one thread where the runner has threads of its own.

    Those of torch go on spinning for a while after every small sum, on the cores that the kernels need next:
    steps that check drafts took three times as long.
    """
    if isinstance(runner, NativeRunner):
        torch.set_num_threads(1)


def make_runner(decoder: Decoder, num_blocks: int, settings: EngineSettings) -> Runner[Any]:
    """Return the fastest runner that the settings and the machine allow.

    Where `settings.quantization` asks for it, the weights of the decoder are rounded in place.

    Raises:
        EngineError: the settings ask for kernels that are not there.
    """
    if settings.quantization is not None and decoder.scheme is not None:
        raise EngineError(
            f"engine.quantization is {settings.quantization}, but the model's weights are packed into "
            f"{decoder.scheme.kind} already: leave the setting out, or name the model that was not packed"
        )
    if settings.quantization is not None:
        pack_decoder(decoder, Scheme(settings.quantization, LOADING_GROUP))
    # What a subclass of the decoder does, the kernels do not know.
    fits = decoder.device.type == "cpu" and type(decoder) is Decoder
    library = load_library() if fits and settings.kernels != "torch" else None
    if library is not None:
        threads = settings.threads or torch.get_num_threads()
        precision = _precision(decoder, tiles=bool(library.byollm_tiles()))
        # Where the model has but 8 bits of each number, an adapter loses less by them than the model did.
        rounded = precision != Precision.FLOAT32 or decoder.scheme is not None
        rounds = rounded and settings.dtype != "float32"
        return NativeRunner(library, decoder, num_blocks, precision, threads, round_adapters=rounds)
    if decoder.device.type == "cuda" and type(decoder) is Decoder and settings.kernels == "auto":
        from byollm.engine.gpu_runner import make_gpu_runner  # imports triton

        return make_gpu_runner(decoder, num_blocks, settings)
    if settings.kernels == "native":
        raise EngineError(
            f"engine.kernels: native needs the compiled CPU kernels, and {_why(decoder.device)}: install "
            "byollm where a C++ compiler is, on a processor with AVX2 or AVX-512, or leave the setting out"
        )
    return ModelRunner(decoder, KVCache(decoder.config, num_blocks, decoder.dtype, decoder.device))


def _precision(decoder: Decoder, tiles: bool) -> Precision:
    """Return how weights are kept that are not packed."""
    if tiles and decoder.dtype == torch.bfloat16:  # activations are rounded only where torch's would be
        return Precision.TILES
    # Half the memory to read, and not a bit is lost where the checkpoint was stored in bfloat16.
    narrow = all(torch.equal(p, p.bfloat16().to(p.dtype)) for p in decoder.parameters() if p.dim() > 1)
    return Precision.BFLOAT16 if narrow else Precision.FLOAT32


def _why(device: torch.device) -> str:
    return "the model is on a GPU" if device.type == "cuda" else "they are off or were not built here"
