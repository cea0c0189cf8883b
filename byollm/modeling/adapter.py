"""LoRA adapters as PEFT saves them, checked against the model that they are for.

A linear layer with weight W computes W x + B (A x) under an adapter (Hu et al., 2021, arXiv:2106.09685). The
scaling, alpha / rank or with rsLoRA alpha / sqrt(rank), is multiplied into B here. An adapter may come from
anybody, so nothing in it is believed: not its sizes, not its names, not its numbers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from byollm.modeling.adapter_config import WEIGHTS, AdapterConfig, quoted, read_file
from byollm.modeling.config import DecoderConfig
from byollm.modeling.errors import AdapterError
from byollm.modeling.stored_tensors import prefix, stored_tensors

MAX_RANK = 64
HEADER_BYTES = 2**20
TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


class LoraPair(NamedTuple):
    """What an adapter adds to one linear layer: B (A x), in float32."""

    a: Tensor  # (rank, in)
    b: Tensor  # (out, rank), scaled


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter, ready to be put into a slot.

    Attributes:
        name: what it is called.
        rank: the largest of its pairs.
        weights: by our names of linear layers, such as `layers.0.self_attn.q_proj`. Layers with one input may
            share an A.
    """

    name: str
    rank: int
    weights: dict[str, LoraPair]


def load_adapter(directory: Path, config: DecoderConfig, name: str, max_rank: int = MAX_RANK) -> Adapter:
    """Read an adapter that PEFT's `save_pretrained` wrote.

    Args:
        directory: holds adapter_config.json and adapter_model.safetensors
        config: the model that the adapter is for
        name: what to call it
        max_rank: the largest rank to take

    Raises:
        AdapterError: a file is absent or damaged, or it is no LoRA adapter of this model; the message names
            the field or the tensor, and no directory, so that it may be shown to anybody.
    """
    said = AdapterConfig.read(directory)
    shapes = linear_shapes(config)
    tensors = _read_tensors(directory / WEIGHTS, shapes, max_rank)
    pairs = {module: _pair(module, sides) for module, sides in _by_module(tensors).items()}
    first = prefix(config)
    targets = {s.name.removesuffix(".weight"): s.parts for s in stored_tensors(config, _parameters(shapes))}
    weights: dict[str, LoraPair] = {}
    for module, (a, b) in pairs.items():
        full = module if module.startswith(first) else first + module
        if full not in targets:
            raise AdapterError(
                f"{WEIGHTS}: it changes {quoted(module)}, which is none of the layers that an adapter can "
                f"change here: {', '.join(_kinds(targets))}. Train it with target_modules among these"
            )
        parts = [part.removesuffix(".weight") for part in targets[full]]
        outs = [shapes[part][0] for part in parts]
        _check_shapes(module, a, b, sum(outs), shapes[parts[0]][1], max_rank, said)
        a, b = a.float(), b.float() * said.scaling(full, len(a))
        if not (a.isfinite().all() and b.isfinite().all()):
            raise AdapterError(f"{WEIGHTS}: {module} holds numbers that are not finite; train it anew")
        for part, rows in zip(parts, torch.split(b, outs), strict=True):
            weights[part] = LoraPair(a.contiguous(), rows.contiguous())
    return Adapter(name, max(len(pair.a) for pair in weights.values()), weights)


def linear_shapes(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Return (out, in) of each linear layer that an adapter can change, by our names."""
    hidden, inner = config.hidden_size, config.intermediate_size
    width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
    layer = {
        "self_attn.q_proj": (width, hidden),
        "self_attn.k_proj": (kv_width, hidden),
        "self_attn.v_proj": (kv_width, hidden),
        "self_attn.o_proj": (hidden, width),
        **({"mlp.gate_proj": (inner, hidden)} if config.gated_mlp else {}),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {f"layers.{i}.{name}": shape for i in range(config.layers) for name, shape in layer.items()}


def _read_tensors(path: Path, shapes: Mapping[str, tuple[int, int]], max_rank: int) -> dict[str, Tensor]:
    """Read the weights, at most as many as an adapter of the largest rank has.

    They are not mapped into memory: who cuts a mapped file short ends every process that looks at it.
    """
    most = sum(4 * max_rank * (rows + columns) for rows, columns in shapes.values()) + HEADER_BYTES
    try:
        tensors = load_tensors(read_file(path, most))
    except (SafetensorError, ValueError, KeyError) as error:
        raise AdapterError(f"{WEIGHTS}: damaged or cut short ({str(error)[:100]}); copy it afresh") from None
    if not tensors:
        raise AdapterError(f"{WEIGHTS}: holds no tensors; save the adapter afresh")
    return tensors


def _by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not (matched := TENSOR_NAME.fullmatch(name)):
            raise AdapterError(
                f"{WEIGHTS}: {quoted(name)} is no part of a LoRA adapter; expected "
                "base_model.model.<layer>.lora_A.weight and lora_B.weight only: train without "
                "modules_to_save, biases and embeddings"
            )
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise AdapterError(
                f"{WEIGHTS}: {quoted(name)} is {tensor.dtype}; expected float32, float16 or bfloat16"
            )
        modules.setdefault(matched["module"], {})[matched["side"]] = tensor
    return modules


def _pair(module: str, sides: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    for side in "AB":
        if side not in sides:
            raise AdapterError(
                f"{WEIGHTS}: {quoted(module)} has no lora_{side}.weight; save the adapter afresh"
            )
    return sides["A"], sides["B"]


def _check_shapes(
    module: str, a: Tensor, b: Tensor, out: int, into: int, max_rank: int, said: AdapterConfig
) -> None:
    rank = a.shape[0] if a.dim() == 2 else 0
    if rank < 1 or tuple(a.shape) != (rank, into) or tuple(b.shape) != (out, rank):
        raise AdapterError(
            f"{WEIGHTS}: {module} has lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)}; expected "
            f"(rank, {into}) and ({out}, rank). It was trained for another model, says its config for "
            f"{quoted(said.base)}: use an adapter of the model that is served"
        )
    if rank not in said.ranks:
        raise AdapterError(
            f"{WEIGHTS}: {module} has rank {rank}, and its config says {quoted(said.ranks[0])}: one of the "
            "two files is another adapter's. Copy the adapter's whole directory afresh"
        )
    if rank > max_rank:
        raise AdapterError(
            f"{WEIGHTS}: {module} has rank {rank}, above the limit of {max_rank}: raise "
            "engine.max_adapter_rank, or train with a smaller r"
        )


def _parameters(shapes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _kinds(targets: Mapping[str, Any]) -> list[str]:
    """The kinds of layers, in a stranger's words: the ends of their names."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in targets))
