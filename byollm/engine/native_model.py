"""A decoder's weights in the compiled library."""

import ctypes
from collections.abc import Iterable, Sequence
from itertools import accumulate, product
from typing import Any, cast

import torch
from torch import Tensor

from byollm.kernels.cpu import Batch, KernelError, Precision, Shape
from byollm.kernels.cpu.library import PARTS, check
from byollm.modeling import Adapter, Decoder
from byollm.modeling.layers import DecoderLayer, Norm
from byollm.modeling.quantized import Embedding, Linear, QuantizedEmbedding, QuantizedLinear

PRODUCTS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""The linear layers that the library multiplies with as one, by what it calls them."""


class NativeModel:
    """A decoder, handed over matrix by matrix; none is ever held as floats that is packed.

    Args:
        library: what `load_library` gave.
        decoder: the model on the CPU. Its embeddings are read where they are; all else is copied and may go.
        precision: in which weights are kept that are not packed. Packed ones stay as they are, but those in
            NF4, which have no kernel: they become bfloat16, as in bitsandbytes' products.
        threads: how many compute together.
        round_adapters: whether adapters are kept in bfloat16 even where that loses bits of them.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        decoder: Decoder,
        precision: Precision,
        threads: int,
        round_adapters: bool = False,
    ) -> None:
        self._library, self._precision, self._layers = library, precision, decoder.config.layers
        self._round_adapters = round_adapters
        shape = _shape(decoder)
        self._model = library.byollm_new(ctypes.byref(shape), threads)
        if not self._model:
            raise KernelError(f"the CPU kernels could not start: {library.byollm_failure().decode()}")
        self._columns: dict[str, int] = {}  # where those of a linear layer begin in its product
        self._kept: list[Tensor | None] = []
        self._hand_over(decoder)

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.byollm_free(self._model)

    def forward(self, batch: Batch) -> None:
        """Compute a batch.

        Raises:
            KernelError: it failed, for example for want of memory.
        """
        self._call("forward", ctypes.byref(batch))

    def set_adapter(self, slot: int, adapter: Adapter | None) -> None:
        """Put an adapter into a slot, in the place of what stands there; None empties it."""
        self._call("vacate", slot)
        if adapter is not None:
            for layer, name in product(range(self._layers), PRODUCTS):
                self._set_product(slot, layer, name, adapter)

    def _set_product(self, slot: int, layer: int, name: str, adapter: Adapter) -> None:
        place, weights = (slot, layer, name.encode()), adapter.weights
        found = {m: pair for m in PRODUCTS[name] if (pair := weights.get(f"layers.{layer}.{m}")) is not None}
        if not found:
            return
        a = _stack([_floats(pair.a) for pair in found.values()])
        narrow = self._round_adapters or _narrow(a, *(pair.b for pair in found.values()))
        precision = Precision.BFLOAT16 if narrow else Precision.FLOAT32
        self._call("adapter", *place, a.data_ptr(), len(a), precision)
        first = 0
        for module, pair in found.items():
            b = _floats(pair.b)
            column = self._columns[module]
            self._call("adapter_target", *place, column, first, b.data_ptr(), *b.shape, precision)
            first += b.shape[1]

    def profile(self) -> dict[str, float]:
        """Return the seconds spent so far in each part of all steps."""
        seconds = (ctypes.c_double * len(PARTS))()
        self._library.byollm_profile(self._model, ctypes.byref(seconds))
        return dict(zip(PARTS, seconds, strict=True))

    def _hand_over(self, decoder: Decoder) -> None:
        config = decoder.config
        for number, layer in enumerate(cast(Iterable[DecoderLayer], decoder.layers)):
            for name, parts in PRODUCTS.items():
                modules = {part: module for part in parts if (module := _part(layer, part)) is not None}
                self._matrix(number, name, *modules.values())
                starts = accumulate((module.out_features for module in modules.values()), initial=0)
                self._columns.update(zip(modules, starts, strict=False))  # the last start is the end
            self._norm(number, "before", layer.input_layernorm)
            if layer.post_attention_layernorm is not None:
                self._norm(number, "after", layer.post_attention_layernorm)
            attention = layer.self_attn
            if attention.q_norm is not None and attention.k_norm is not None:
                self._vector(number, "q_norm", attention.q_norm.weight)
                self._vector(number, "k_norm", attention.k_norm.weight)
            self._call("window", number, config.window(number) or 0)
        self._norm(0, "last", decoder.norm)
        if decoder.rotary is not None:
            self._vector(0, "cos", decoder.rotary.cos)
            self._vector(0, "sin", decoder.rotary.sin)
        self._matrix(0, "head", decoder.embed_tokens if decoder.lm_head is None else decoder.lm_head)
        self._table("tokens", decoder.embed_tokens)
        if decoder.embed_positions is not None:
            self._table("positions", decoder.embed_positions)

    def _matrix(self, layer: int, name: str, *modules: Linear | Embedding) -> None:
        """Hand over the weights of some modules as one matrix, one above the other."""
        biases = [bias for module in modules if (bias := getattr(module, "bias", None)) is not None]
        bias = torch.cat(biases).detach().float() if biases else None
        packed = [m.packed for m in modules if isinstance(m, QuantizedLinear | QuantizedEmbedding)]
        place = layer, name.encode()
        if packed and (kind := packed[0].scheme.kind) != "nf4":
            codes, scales = _stack([p.codes for p in packed]), _stack([p.scales for p in packed])
            size = packed[0].scheme.group, len(codes), packed[0].shape[1]
            addresses = codes.data_ptr(), scales.data_ptr()
            self._call("packed", *place, *addresses, *size, _address(bias), Precision[kind.upper()])
            return
        precision = self._precision
        if packed and precision != Precision.TILES:
            precision = Precision.BFLOAT16
        weight = _stack([_numbers(module) for module in modules])
        half = weight.dtype == torch.bfloat16
        self._call("linear", *place, weight.data_ptr(), half, *weight.shape, _address(bias), precision)

    def _table(self, name: str, table: Embedding) -> None:
        if isinstance(table, QuantizedEmbedding):
            rows, scales, precision = table.codes.contiguous(), table.scales.contiguous(), Precision.INT8
        else:
            rows, scales = _numbers(table), None
            precision = Precision.BFLOAT16 if rows.dtype == torch.bfloat16 else Precision.FLOAT32
        group = table.scheme.group if isinstance(table, QuantizedEmbedding) else 0
        self._kept += rows, scales
        self._call("table", name.encode(), rows.data_ptr(), precision, _address(scales), group)

    def _norm(self, layer: int, name: str, norm: Norm) -> None:
        self._vector(layer, name, norm.weight)
        if norm.bias is not None:
            self._vector(layer, f"{name}_bias", norm.bias)

    def _vector(self, layer: int, name: str, values: Tensor) -> None:
        values = _floats(values)
        self._call("vector", layer, name.encode(), values.data_ptr(), values.numel())

    def _call(self, name: str, *arguments: Any) -> None:
        check(self._library, getattr(self._library, f"byollm_{name}")(self._model, *arguments))


def _part(layer: DecoderLayer, name: str) -> Linear | None:
    block, part = name.split(".")
    return cast(Linear | None, getattr(getattr(layer, block), part))


def _shape(decoder: Decoder) -> Shape:
    config = decoder.config
    return Shape(
        vocab=config.vocab_size,
        hidden=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        inner=config.intermediate_size,
        rotary_pairs=config.rotary_dim // 2,
        layer_norm=config.norm == "layer",
        gated=config.gated_mlp,
        parallel=config.parallel_residual,
        half_cache=decoder.dtype == torch.bfloat16,
        eps=config.norm_eps,
    )


def _numbers(module: Linear | Embedding) -> Tensor:
    """Return a module's weight in a type that the library takes: bfloat16 or float32."""
    if isinstance(module, QuantizedLinear | QuantizedEmbedding):
        return module.dequantised(torch.bfloat16)
    weight = module.weight.detach()
    return weight.contiguous() if weight.dtype == torch.bfloat16 else _floats(weight)


def _floats(values: Tensor) -> Tensor:
    return values.detach().float().contiguous()


def _narrow(*tensors: Tensor) -> bool:
    """Whether bfloat16 holds numbers without losing a bit."""
    return all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in tensors)


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """Put matrices one above the other; one alone is not copied."""
    return parts[0].contiguous() if len(parts) == 1 else torch.cat([*parts])


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
