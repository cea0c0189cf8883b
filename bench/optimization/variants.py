"""Engines of the variants, and what their weights cost in quality."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from bench.optimization.techniques import Variant
from byollm.engine import Engine
from byollm.modeling import Decoder, DecoderConfig, Tokenizer, load_config, load_decoder
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
        directory = work / model.name / name
        if not directory.exists():
            write_adapter(directory, load_config(model), number)
        engine.adapters.load(name, directory)
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


def write_adapter(directory: Path, config: DecoderConfig, seed: int) -> None:
    """Write a random adapter of all linear layers as PEFT does."""
    generator = torch.Generator().manual_seed(seed)
    heads, kv_heads = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kv_heads, hidden),
        "self_attn.v_proj": (kv_heads, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    tensors = {}
    for layer in range(config.layers):
        for name, (rows, columns) in shapes.items():
            stem = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{stem}.lora_A.weight"] = 0.02 * torch.randn(RANK, columns, generator=generator)
            tensors[f"{stem}.lora_B.weight"] = 0.02 * torch.randn(rows, RANK, generator=generator)
    said: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK}
    said |= {"target_modules": sorted(name.split(".")[1] for name in shapes), "bias": "none"}
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text(json.dumps(said))
    save_file(tensors, directory / "adapter_model.safetensors")
