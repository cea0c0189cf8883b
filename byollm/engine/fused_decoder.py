"""A decoder's forward pass over the paged cache in few launches of fused kernels."""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.engine.fused_linear import Adapted, FusedLinear
from byollm.engine.gpu_adapters import GpuAdapters, Group
from byollm.engine.gpu_batch import Batch
from byollm.engine.kv_cache import KVCache, LayerCache
from byollm.kernels.gpu.activations import gelu, swiglu
from byollm.kernels.gpu.norms import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from byollm.kernels.gpu.packed_linear import packed_linear
from byollm.kernels.gpu.paged_decode import paged_decode
from byollm.kernels.gpu.paged_prefill import paged_prefill
from byollm.kernels.gpu.rotary_and_store import rotary_and_store
from byollm.modeling import Decoder
from byollm.modeling.layers import DecoderLayer, Norm
from byollm.modeling.quantized import QuantizedEmbedding, QuantizedLinear


class FusedLayer:
    """One layer: its products fused where they read the same input."""

    def __init__(self, layer: DecoderLayer, number: int, window: int | None) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        place = f"layers.{number}."
        self.qkv = FusedLinear(
            {f"{place}self_attn.{name}_proj": getattr(attention, f"{name}_proj") for name in "qkv"}
        )
        self.output = FusedLinear({f"{place}self_attn.o_proj": attention.o_proj})
        self.gated = mlp.gate_proj is not None
        gate = {} if mlp.gate_proj is None else {f"{place}mlp.gate_proj": mlp.gate_proj}
        self.up = FusedLinear(gate | {f"{place}mlp.up_proj": mlp.up_proj})
        self.down = FusedLinear({f"{place}mlp.down_proj": mlp.down_proj})
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.window = window

    @property
    def groups(self) -> tuple[Group, ...]:
        """What adapters may change."""
        return tuple(linear.group for linear in (self.qkv, self.output, self.up, self.down))


class FusedDecoder:
    """The decoder as the kernels compute it; what `Decoder` defines, up to rounding.

    Args:
        decoder: its weights are shared, and moved within memory.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._config = decoder.config
        self.layers = [
            FusedLayer(layer, number, decoder.config.window(number))
            for number, layer in enumerate(cast(Iterable[DecoderLayer], decoder.layers))
        ]

    def hidden(self, tokens: Tensor, batch: Batch, cache: KVCache, adapters: GpuAdapters | None) -> Tensor:
        """Return the hidden states after the last norm, (rows, hidden).

        Args:
            tokens: (rows,) token ids.
            batch: all else about the rows.
            cache: gets their keys and values.
            adapters: what the rows may have slots of; None where no row has one.
        """
        decoder = self._decoder
        adapted = None if adapters is None else Adapted(adapters, batch.adapters)
        residual = decoder.embed_tokens(tokens).to(decoder.dtype)
        if decoder.embed_positions is not None:
            residual = residual + decoder.embed_positions(batch.positions)
        normed = _norm(self.layers[0].before, residual)
        following = [layer.before for layer in self.layers[1:]] + [decoder.norm]
        for layer, pages, after in zip(self.layers, cache.layers, following, strict=True):
            attended = self._attend(layer, normed, batch, pages, adapted)
            added = layer.output(attended, adapted)
            if layer.between is None:
                added = added + self._expand(layer, normed, adapted)
            else:
                normed, residual = _add_norm(layer.between, added, residual)
                added = self._expand(layer, normed, adapted)
            normed, residual = _add_norm(after, added, residual)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 scores of every next token, (rows, vocab)."""
        decoder = self._decoder
        head = decoder.embed_tokens if decoder.lm_head is None else decoder.lm_head
        if isinstance(head, QuantizedLinear | QuantizedEmbedding):
            return packed_linear(hidden, head.packed).float()
        return F.linear(hidden, head.weight).float()

    def _attend(
        self, layer: FusedLayer, x: Tensor, batch: Batch, pages: LayerCache, adapted: Adapted | None
    ) -> Tensor:
        config, rotary = self._config, self._decoder.rotary
        projected = layer.qkv(x, adapted)
        parts = layer.qkv.group.parts.values()
        q, k, v = (projected[:, part].view(len(x), -1, config.head_dim) for part in parts)
        q = rotary_and_store(
            q,
            k,
            v,
            None if rotary is None else rotary.cos,
            None if rotary is None else rotary.sin,
            batch.positions,
            batch.cells,
            pages.keys,
            pages.values,
            None if layer.q_norm is None else layer.q_norm.weight,
            None if layer.k_norm is None else layer.k_norm.weight,
            config.norm_eps,
            config.norm,
        )
        return self._attention(layer, q, batch, pages).flatten(1)

    @staticmethod
    def _attention(layer: FusedLayer, q: Tensor, batch: Batch, pages: LayerCache) -> Tensor:
        single, lengths, tables = batch.layout.singles, batch.lengths, batch.tables
        parts = []
        if single:
            parts.append(
                paged_decode(
                    q[:single], pages.keys, pages.values, tables[:single], lengths[:single], layer.window
                )
            )
        if single < batch.layout.sequences:
            parts.append(
                paged_prefill(
                    q[single:],
                    pages.keys,
                    pages.values,
                    tables[single:],
                    batch.first_rows,
                    batch.starts[single:],
                    lengths[single:],
                    layer.window,
                )
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    def _expand(layer: FusedLayer, x: Tensor, adapted: Adapted | None) -> Tensor:
        inner = layer.up(x, adapted)
        return layer.down(swiglu(*inner.chunk(2, -1)) if layer.gated else gelu(inner), adapted)


def _norm(norm: Norm, x: Tensor) -> Tensor:
    if norm.kind == "rms":
        return rms_norm(x, norm.weight, norm.eps)
    return layer_norm(x, norm.weight, norm.bias, norm.eps)


def _add_norm(norm: Norm, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    if norm.kind == "rms":
        return add_rms_norm(x, residual, norm.weight, norm.eps)
    return add_layer_norm(x, residual, norm.weight, norm.bias, norm.eps)
