"""Linear layers that read the same input, computed as one."""

from collections.abc import Mapping
from itertools import accumulate, pairwise, starmap
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from byollm.engine.gpu_adapters import GpuAdapters, Group
from byollm.kernels.gpu.packed_linear import packed_linear
from byollm.kernels.packed import PackedWeight
from byollm.modeling.quantized import QuantizedLinear


class Adapted(NamedTuple):
    """What the rows of a step have beside the weights.

    Attributes:
        adapters: all of them.
        slots: (rows,) of each row; below 0: none.
    """

    adapters: GpuAdapters
    slots: Tensor


class FusedLinear:
    """Layers side by side: (..., in) to (..., the sum of their outs).

    Their weights are put behind each other in memory, and the layers keep views of their parts, so that
    nothing is held twice and the decoder they belong to computes as before.

    Args:
        layers: by name; all of them packed by one scheme, or none.
    """

    def __init__(self, layers: Mapping[str, nn.Linear | QuantizedLinear]) -> None:
        ends = list(accumulate((layer.out_features for layer in layers.values()), initial=0))
        parts = dict(zip(layers, starmap(slice, pairwise(ends)), strict=True))
        self.group = Group(parts, next(iter(layers.values())).in_features, ends[-1])
        biases = [layer.bias.detach() for layer in layers.values() if layer.bias is not None]
        self._bias = torch.cat(biases) if biases else None
        self._packed: list[PackedWeight] = []
        self._weight: Tensor | None = None
        packed = [layer for layer in layers.values() if isinstance(layer, QuantizedLinear)]
        if packed:
            self._packed = _join(packed)
        else:
            plain = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
            self._weight = _together([layer.weight.detach() for layer in plain])
            for layer, part in zip(plain, parts.values(), strict=True):
                layer.weight.data = self._weight[part]

    def __call__(self, x: Tensor, adapted: Adapted | None = None) -> Tensor:
        """Map `x` (rows, in) to (rows, outs)."""
        out = self._product(x)
        if adapted is not None:
            adapted.adapters.add(self.group, x, out, adapted.slots)
        return out

    def _product(self, x: Tensor) -> Tensor:
        if self._weight is not None:
            return F.linear(x, self._weight, self._bias)
        if len(self._packed) == 1:
            return packed_linear(x, self._packed[0], self._bias)
        out = torch.cat([packed_linear(x, packed) for packed in self._packed], dim=-1)
        return out if self._bias is None else out + self._bias


def _join(layers: list[QuantizedLinear]) -> list[PackedWeight]:
    """Return the weights of layers as one, unless a group of weights would end amid a layer."""
    scheme, inputs = layers[0].scheme, layers[0].in_features
    if scheme.kind == "nf4" and any(layer.out_features * inputs % scheme.group for layer in layers):
        return [layer.packed for layer in layers]
    codes = _together([layer.codes for layer in layers])
    scales = _together([layer.scales for layer in layers])
    code = scale = 0
    for layer in layers:
        next_code, next_scale = code + len(layer.codes), scale + len(layer.scales)
        layer.codes, layer.scales = codes[code:next_code], scales[scale:next_scale]
        code, scale = next_code, next_scale
    return [PackedWeight(codes, scales, scheme, (sum(layer.out_features for layer in layers), inputs))]


def _together(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
