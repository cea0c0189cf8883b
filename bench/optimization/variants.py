"""Engines of the variants, and what their weights cost in quality."""

from pathlib import Path

import torch

from bench.adapters import write_adapter
from bench.optimization.techniques import Variant
from byollm.engine import Engine
from byollm.modeling import Decoder, Tokenizer, load_decoder
from byollm.modeling.packed_decoder import pack_decoder
from byollm.settings.engine import EngineSettings
from byollm.training.evaluation.held_out import validate_held_out

RANK = 16
ROOM = {"max_running": 32, "max_context": 512, "speculative": "off"}
"""What all variants have unless they say otherwise: random prompts are not to be guessed."""


def load(variant: Variant, model: Path, work: Path) -> tuple[Engine, tuple[str, ...]]:
    """Load a model as a variant runs it; return the names of its adapters, too.

    Args:
        variant: how.
        model: its directory.
        work: where adapters may be written.
    """
    settings = EngineSettings(**(ROOM | variant.settings))
    if variant.scheme is None:
        engine = Engine.load(model, settings)
    else:
        engine = Engine(_packed(variant, model), Tokenizer.load(model), settings)
    names = tuple(f"adapter-{number}" for number in range(variant.adapters))
    for number, name in enumerate(names):
        write_adapter(work, engine.runner.config, RANK, number)
        engine.adapters.load(name, work)
    return engine, names


def _packed(variant: Variant, model: Path) -> Decoder:
    decoder = load_decoder(model, torch.float32)
    assert variant.scheme is not None
    pack_decoder(decoder, variant.scheme)
    return decoder


def quality(variant: Variant, model: Path, prepared: Path) -> dict[str, float]:
    """Return the bits per byte of held-out text, and the bytes of the weights."""
    decoder = load_decoder(model, torch.float32)
    if variant.scheme is not None:
        pack_decoder(decoder, variant.scheme)
    # What is not packed is served in bfloat16; tied tensors are there once.
    stored = {tensor.data_ptr(): (name, tensor) for name, tensor in decoder.state_dict().items()}
    size = sum(
        tensor.numel() * (tensor.itemsize if name.endswith((".codes", ".scales")) else 2)
        for name, tensor in stored.values()
    )
    length = min(512, decoder.config.max_positions)
    held_out = validate_held_out(decoder, model / "tokenizer.json", prepared, length, 8)
    return {"bits_per_byte": held_out.bits_per_byte, "bytes": size}
