"""The kernels that a step of a model launches, each on its own, over random numbers of the model's shapes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from byollm.engine.fused_decoder import FusedDecoder
from byollm.engine.gpu_adapters import SMALLEST_RANK
from byollm.engine.kv_cache import BLOCK_SIZE
from byollm.kernels.gpu.activations import gelu, swiglu
from byollm.kernels.gpu.lora import lora_grouped
from byollm.kernels.gpu.norms import add_layer_norm, add_rms_norm
from byollm.kernels.gpu.paged_decode import paged_decode
from byollm.kernels.gpu.paged_prefill import paged_prefill
from byollm.kernels.gpu.rotary_and_store import rotary_and_store
from byollm.kernels.gpu.sample import sample
from byollm.kernels.packed import Scheme
from byollm.modeling import Decoder, DecoderConfig
from byollm.modeling.packed_decoder import pack_decoder

DECODED_ROWS = 64  # a step of more rows than these has a prompt in it

Call = Callable[[], Tensor]


class KernelCalls:
    """One layer and the head of a model with random weights.

    Args:
        config: the model's shape.
        scheme: how its linear layers are packed; None: they are not, and their products are torch's.
        dtype: of activations and cache.
        device: where to compute.
        context: most tokens of a sequence.
        adapter_slots: most adapters of a step.
    """

    def __init__(
        self,
        config: DecoderConfig,
        scheme: Scheme | None,
        dtype: torch.dtype,
        device: torch.device,
        context: int,
        adapter_slots: int = 0,
    ) -> None:
        self._config = replace(config, layers=1, sliding_window=None, sliding_layers=())
        self._dtype, self._device, self._context = dtype, device, context
        torch.manual_seed(0)
        with torch.device(device):
            decoder = Decoder(self._config).to(dtype)
        if scheme is not None:
            pack_decoder(decoder, scheme)
        self._packed, self._slots = scheme is not None, adapter_slots
        self._rotary = decoder.rotary
        self._fused = FusedDecoder(decoder.eval())

    def of(self, rows: int) -> Iterator[Call]:
        """Yield the calls of a step of `rows` rows.

        Up to `DECODED_ROWS` each is a sequence of its own, half as long as it may be; more are one prompt.
        """
        config, draw = self._config, self._draw
        x, residual = draw(rows, config.hidden_size), draw(rows, config.hidden_size)
        weight = draw(config.hidden_size)
        if config.norm == "rms":
            yield lambda: add_rms_norm(x, residual, weight, config.norm_eps)[0]
        else:
            yield lambda: add_layer_norm(x, residual, weight, weight, config.norm_eps)[0]
        up, gate = draw(rows, config.intermediate_size), draw(rows, config.intermediate_size)
        yield partial(swiglu, gate, up) if config.gated_mlp else partial(gelu, up)
        yield from self._attention(rows)
        if self._packed:
            layer = self._fused.layers[0]
            yield partial(layer.qkv, x)
            yield partial(layer.output, draw(rows, config.heads * config.head_dim))
            yield partial(layer.up, x)
            yield partial(layer.down, up)
        if self._slots:
            yield from self._adapters(rows)
        if rows <= DECODED_ROWS:
            yield partial(self._fused.logits, x)
            yield self._choice(rows)

    def _attention(self, rows: int) -> Iterator[Call]:
        config, device = self._config, self._device
        single = rows <= DECODED_ROWS
        length = max(1, self._context // 2) if single else min(rows, self._context)
        sequences, used = (rows if single else 1), -(-length // BLOCK_SIZE)
        width = -(-self._context // BLOCK_SIZE)  # as in steps: kernels are configured by it
        rows = rows if single else length
        shape = (sequences * used, config.kv_heads, BLOCK_SIZE, config.head_dim)
        keys, values = self._draw(*shape), self._draw(*shape)
        tables = torch.zeros(sequences, width, dtype=torch.int32, device=device)
        tables[:, :used] = torch.arange(sequences * used, device=device).view(sequences, used)
        lengths = torch.full((sequences,), length, dtype=torch.int32, device=device)
        starts = lengths - 1 if single else torch.zeros_like(lengths)
        positions = starts.long() if single else torch.arange(length, device=device)
        q = self._draw(rows, config.heads, config.head_dim)
        k, v = (self._draw(rows, config.kv_heads, config.head_dim) for _ in range(2))
        cos = None if self._rotary is None else self._rotary.cos
        sin = None if self._rotary is None else self._rotary.sin
        cells = tables[:, used - 1].long() * BLOCK_SIZE if single else positions
        yield lambda: rotary_and_store(q.clone(), k, v, cos, sin, positions, cells, keys, values)
        if single:
            yield lambda: paged_decode(q, keys, values, tables, lengths, None)
        else:
            first_rows = torch.tensor([0, rows], dtype=torch.int32, device=device)
            yield lambda: paged_prefill(q, keys, values, tables, first_rows, starts, lengths, None)

    def _adapters(self, rows: int) -> Iterator[Call]:
        """Yield what adapters of the smallest rank add, each row with the next one."""
        slots = torch.arange(rows, device=self._device) % self._slots
        for group in self._fused.layers[0].groups:
            x, out = self._draw(rows, group.inputs), self._draw(rows, group.outputs)
            a = self._draw(self._slots, len(group.parts), SMALLEST_RANK, group.inputs)
            b = self._draw(self._slots, group.outputs, SMALLEST_RANK)
            yield partial(self._adapted, x, a, b, slots, out, group.starts)

    @staticmethod
    def _adapted(
        x: Tensor, a: Tensor, b: Tensor, slots: Tensor, out: Tensor, starts: tuple[int, ...]
    ) -> Tensor:
        return lora_grouped(x, a, b, slots, out.clone(), starts)

    def _choice(self, rows: int) -> Call:
        logits = torch.randn(rows, self._config.vocab_size, device=self._device)
        floats = (torch.full((rows,), value, device=self._device) for value in (0.8, 0.9, 0.0))
        temperature, top_p, min_p = floats
        top_k, numbers = (torch.arange(rows, device=self._device) * factor for factor in (0, 1))
        return lambda: sample(logits, temperature, top_k, top_p, min_p, numbers, numbers)

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self._device).to(self._dtype)
