"""LoRA adapters as PEFT saves them, checked against the model that they are for.

A linear layer with weight W computes W x + B (A x) under an adapter (Hu et al., 2021, arXiv:2106.09685). The
scaling, alpha / rank or with rsLoRA alpha / sqrt(rank), is multiplied into B here. An adapter may come from
anybody, so nothing in it is believed: not its sizes, not its names, not its numbers.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from byollm.modeling.config import DecoderConfig
from byollm.modeling.errors import AdapterError
from byollm.modeling.stored_tensors import prefix, stored_tensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS)
MAX_RANK = 64
CONFIG_BYTES = 2**20
HEADER_BYTES = 2**20
TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# What an adapter's config may say whatever the value: it tells of the training, or is read here.
KNOWN = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
# Other ways to begin change the base model's weights, so that the adapter is none to the original.
INITS = (True, False, None, "gaussian", "eva", "orthogonal")


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
    said = _read_config(directory / CONFIG)
    shapes = linear_shapes(config)
    tensors = _read_tensors(directory / WEIGHTS, shapes, max_rank)
    pairs = {module: _pair(module, sides) for module, sides in _by_module(tensors).items()}
    scaling = _Scaling(said)
    first = prefix(config)
    targets = {s.name.removesuffix(".weight"): s.parts for s in stored_tensors(config, _parameters(shapes))}
    weights: dict[str, LoraPair] = {}
    for module, (a, b) in pairs.items():
        full = module if module.startswith(first) else first + module
        if full not in targets:
            raise AdapterError(
                f"{WEIGHTS}: it changes {_quoted(module)}, which is none of the layers that an adapter can "
                f"change here: {', '.join(_kinds(targets))}. Train it with target_modules among these"
            )
        parts = [part.removesuffix(".weight") for part in targets[full]]
        outs = [shapes[part][0] for part in parts]
        _check_shapes(module, a, b, sum(outs), shapes[parts[0]][1], max_rank, said)
        a, b = a.float(), b.float() * scaling.of(full, len(a))
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


class _Scaling:
    """What B is multiplied by, as an adapter's config says it."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._alpha = _number(said, "lora_alpha", 8)
        self._root = said.get("use_rslora") is True
        patterns = said.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise AdapterError(f"{CONFIG}: alpha_pattern is no object; expected names of modules and numbers")
        self._patterns = [(_Pattern(key), _number(patterns, key, 0)) for key in patterns]

    def of(self, module: str, rank: int) -> float:
        alpha = next((value for pattern, value in self._patterns if pattern.matches(module)), self._alpha)
        return alpha / (math.sqrt(rank) if self._root else rank)


class _Pattern:
    """A key of alpha_pattern: the end of a module's name, or after ^ all of it.

    PEFT takes any regular expression. One from a stranger may run for ever, so here it has to be a name.
    """

    def __init__(self, key: str) -> None:
        self._whole, self._name = key.startswith("^"), key.removeprefix("^").replace("\\.", ".")
        if not re.fullmatch(r"[\w.]+", self._name):
            raise AdapterError(
                f"{CONFIG}: alpha_pattern has {_quoted(key)}; expected the name of a module, such as "
                "layers.0.self_attn.q_proj: write each module out instead of a regular expression"
            )

    def matches(self, module: str) -> bool:
        return module == self._name or (not self._whole and module.endswith(f".{self._name}"))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(_read(path, CONFIG_BYTES))
    except (ValueError, RecursionError):
        raise AdapterError(f"{CONFIG}: not JSON; copy the file afresh") from None
    if not isinstance(said, dict):
        raise AdapterError(f"{CONFIG}: expected a JSON object; copy the file afresh")
    if said.get("peft_type") != "LORA":
        raise AdapterError(
            f"{CONFIG}: peft_type is {_quoted(said.get('peft_type'))}; expected LORA. Train a LoRA adapter, "
            "or merge this one into its model (PEFT's merge_and_unload)"
        )
    if said.get("bias", "none") != "none":
        raise AdapterError(
            f"{CONFIG}: bias is {_quoted(said['bias'])}; expected none. Biases belong to the base model: "
            'train with bias="none"'
        )
    init = said.get("init_lora_weights")
    if not (init is None or isinstance(init, bool) or init in INITS):
        raise AdapterError(
            f"{CONFIG}: init_lora_weights is {_quoted(init)}, which changes the base model; convert the "
            "adapter with save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    for field, value in said.items():
        if value and field not in KNOWN:
            raise AdapterError(
                f"{CONFIG}: {_quoted(field, 60)} is {_quoted(value)}, which adapters in slots cannot have. "
                "Train without it, or merge the adapter into its model (PEFT's merge_and_unload)"
            )
    return said


def _read_tensors(path: Path, shapes: Mapping[str, tuple[int, int]], max_rank: int) -> dict[str, Tensor]:
    """Read the weights, at most as many as an adapter of the largest rank has.

    They are not mapped into memory: who cuts a mapped file short ends every process that looks at it.
    """
    most = sum(4 * max_rank * (rows + columns) for rows, columns in shapes.values()) + HEADER_BYTES
    try:
        tensors = load_tensors(_read(path, most))
    except (SafetensorError, ValueError, KeyError) as error:
        raise AdapterError(f"{WEIGHTS}: damaged or cut short ({str(error)[:100]}); copy it afresh") from None
    if not tensors:
        raise AdapterError(f"{WEIGHTS}: holds no tensors; save the adapter afresh")
    return tensors


def _read(path: Path, most: int) -> bytes:
    try:
        if not path.is_file():
            remedy = "copy the adapter's whole directory, as PEFT's save_pretrained wrote it"
            if path.name == WEIGHTS and path.with_suffix(".bin").exists():
                remedy = "save it with safe_serialization=True: pickled weights could run code"
            raise AdapterError(f"{path.name}: absent; {remedy}")
        with path.open("rb") as file:
            read = file.read(most + 1)
    except OSError as error:
        raise AdapterError(f"{path.name}: not readable ({error.strerror}); check its permissions") from None
    if len(read) > most:
        raise AdapterError(
            f"{path.name}: larger than {most} bytes, the most that an adapter of this model within the rank "
            "limit (engine.max_adapter_rank) takes"
        )
    return read


def _by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if not (matched := TENSOR_NAME.fullmatch(name)):
            raise AdapterError(
                f"{WEIGHTS}: {_quoted(name)} is no part of a LoRA adapter; expected "
                "base_model.model.<layer>.lora_A.weight and lora_B.weight only: train without "
                "modules_to_save, biases and embeddings"
            )
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise AdapterError(
                f"{WEIGHTS}: {_quoted(name)} is {tensor.dtype}; expected float32, float16 or bfloat16"
            )
        modules.setdefault(matched["module"], {})[matched["side"]] = tensor
    return modules


def _pair(module: str, sides: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    for side in "AB":
        if side not in sides:
            raise AdapterError(
                f"{WEIGHTS}: {_quoted(module)} has no lora_{side}.weight; save the adapter afresh"
            )
    return sides["A"], sides["B"]


def _check_shapes(
    module: str, a: Tensor, b: Tensor, out: int, into: int, max_rank: int, said: Mapping[str, Any]
) -> None:
    rank = a.shape[0] if a.dim() == 2 else 0
    if rank < 1 or tuple(a.shape) != (rank, into) or tuple(b.shape) != (out, rank):
        raise AdapterError(
            f"{WEIGHTS}: {module} has lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)}; expected "
            f"(rank, {into}) and ({out}, rank). It was trained for another model, says its config for "
            f"{_quoted(said.get('base_model_name_or_path'))}: use an adapter of the model that is served"
        )
    if rank > max_rank:
        raise AdapterError(
            f"{WEIGHTS}: {module} has rank {rank}, above the limit of {max_rank}: raise "
            "engine.max_adapter_rank, or train with a smaller r"
        )


def _number(said: Mapping[str, Any], field: str, default: float) -> float:
    value = said.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError(f"{CONFIG}: {_quoted(field, 60)} is {_quoted(value)}; expected a number")
    return float(value)


def _parameters(shapes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    return {f"{name}.weight": torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _kinds(targets: Mapping[str, Any]) -> list[str]:
    """The kinds of layers, in a stranger's words: the ends of their names."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in targets))


def _quoted(value: object, most: int = 100) -> str:
    """Something a stranger wrote, kept short."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"
