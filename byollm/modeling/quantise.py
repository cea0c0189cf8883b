"""Weights into few bits: the nearest integers at the best scales, or those that GPTQ chooses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.kernels.packed import PackedWeight, Scheme
from byollm.modeling.errors import QuantisationError
from byollm.modeling.gptq import gptq
from byollm.modeling.nf4 import pack_nf4


def quantise(weight: Tensor, scheme: Scheme, hessian: Tensor | None = None) -> PackedWeight:
    """Pack a weight (out, in) of any float type, on its device.

    Args:
        weight: the numbers
        scheme: how
        hessian: (in, in) float32, the sum of x x^T over inputs x of this layer; with it the error of the
            layer's output is made small (GPTQ) instead of that of the weights. Not for nf4, whose
            numbers are bitsandbytes' own.

    Raises:
        QuantisationError: the weight holds numbers that are not finite.
    """
    if not weight.isfinite().all():
        raise QuantisationError(
            f"a weight of shape {tuple(weight.shape)} holds numbers that are not finite, which cannot be "
            "packed. Copy the checkpoint afresh, or take an earlier one of the training"
        )
    if scheme.kind == "nf4":
        return pack_nf4(weight, double=scheme.double)
    weight = weight.detach().float()
    scales = nearest_scales(weight, scheme)
    if hessian is None:
        return pack(round_to(weight, scales, scheme), scales, scheme)
    return pack(gptq(weight, _spread(scales, scheme, weight), *bounds(scheme), hessian), scales, scheme)


def nearest_scales(weight: Tensor, scheme: Scheme) -> Tensor:
    """Return the scales (out, groups) with which no weight is clipped."""
    groups = _grouped(weight, scheme.group)  # (out, groups, group)
    furthest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True)).squeeze(-1)
    return usable(furthest / (127 if scheme.kind == "int8" else -8))


def usable(scales: Tensor) -> Tensor:
    """Round scales to bfloat16; a group of zeros, or of numbers too small for any scale, gets 1."""
    scales = scales.bfloat16()
    return torch.where(scales == 0, 1, scales)


def round_to(weight: Tensor, scales: Tensor, scheme: Scheme) -> Tensor:
    """Return the integers (out, in), as floats, that are nearest to the weight at these scales."""
    lowest, highest = bounds(scheme)
    return (weight / _spread(scales, scheme, weight)).round_().clamp_(lowest, highest)


def bounds(scheme: Scheme) -> tuple[int, int]:
    """Return the lowest and the highest integer."""
    return (-127, 127) if scheme.kind == "int8" else (-8, 7)


def pack(integers: Tensor, scales: Tensor, scheme: Scheme) -> PackedWeight:
    """Pack whole numbers (out, in), of any type, and their scales (out, groups) in bfloat16."""
    shape = (integers.shape[0], integers.shape[1])
    if scheme.kind == "int8":
        return PackedWeight(integers.to(torch.int8), scales, scheme, shape)
    nibbles = F.pad(integers + 8, (0, shape[1] % 2), value=8).to(torch.uint8)
    return PackedWeight(nibbles[:, ::2] | nibbles[:, 1::2] << 4, scales, scheme, shape)


def _spread(scales: Tensor, scheme: Scheme, weight: Tensor) -> Tensor:
    """Return the scale of each weight, (out, in) float32."""
    return scales.float().repeat_interleave(scheme.group, dim=1)[:, : weight.shape[1]]


def _grouped(weight: Tensor, group: int) -> Tensor:
    """Fill rows (out, in) up with zeros to whole groups: (out, groups, group)."""
    return F.pad(weight, (0, -weight.shape[1] % group)).view(len(weight), -1, group)
