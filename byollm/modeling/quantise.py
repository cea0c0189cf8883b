"""Weights into few bits: the nearest integers at the best scales, or those that GPTQ chooses."""

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.kernels.packed import PackedWeight, Scheme
from byollm.modeling.errors import QuantisationError
from byollm.modeling.gptq import gptq
from byollm.modeling.nf4 import pack_nf4

SHARES: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
"""Scales of 4 bits that are tried, as shares of the one that clips no weight."""
CHUNK = 2**18
"""Weights rounded at a time: what is worked out on the way stays in a processor's cache."""


def quantise(weight: Tensor, scheme: Scheme, hessian: Tensor | None = None) -> PackedWeight:
    """Pack a weight (out, in) of any float type, on its device.

    Args:
        weight: the numbers
        scheme: how
        hessian: (in, in) float32, the sum of x x^T over inputs x of this layer; with it the error of the
            layer's output is made small (GPTQ) instead of that of the weights. Not for nf4, whose
            numbers are bitsandbytes' own.

    Raises:
        QuantisationError: the weight or the Hessian holds numbers that are not finite.
    """
    weight = weight.detach()
    if not weight.isfinite().all():
        raise QuantisationError(
            f"a weight of shape {tuple(weight.shape)} holds numbers that are not finite, which cannot be "
            "packed. Copy the checkpoint afresh, or take an earlier one of the training"
        )
    if scheme.kind == "nf4":
        if hessian is not None:
            raise QuantisationError("nf4 has bitsandbytes' own numbers: pack it without calibration")
        return pack_nf4(weight, double=scheme.double)
    if hessian is not None:
        if not hessian.isfinite().all():
            raise QuantisationError(
                "the hidden states of the calibration text are not finite: the model computes no answers to "
                "it. Pack without calibration, or copy the checkpoint afresh"
            )
        weight = weight.float()
        scales = best_scales(weight, scheme)
        return pack(gptq(weight, _spread(scales, scheme, weight), *bounds(scheme), hessian), scales, scheme)
    rounded = [
        _rounded(rows.float(), scheme)
        for rows in torch.split(weight, max(1, CHUNK // max(1, weight.shape[1])))
    ]
    codes, scales = torch.cat([part.codes for part in rounded]), torch.cat([part.scales for part in rounded])
    return PackedWeight(codes, scales, scheme, (weight.shape[0], weight.shape[1]))


def _rounded(weight: Tensor, scheme: Scheme) -> PackedWeight:
    scales = best_scales(weight, scheme)
    lowest, highest = bounds(scheme)
    integers = (weight / _spread(scales, scheme, weight)).round_().clamp_(lowest, highest)
    return pack(integers, scales, scheme)


def best_scales(weight: Tensor, scheme: Scheme) -> Tensor:
    """Return the scales (out, groups) in bfloat16 for a weight (out, in) in float32.

    In 8 bits no weight is clipped. In 4 bits that scale is taken which makes the sum of the fourth powers of
    the errors smallest: more of the small weights' bits survive if the largest is clipped a little. Squares
    would clip more, and cost more quality than they save (bench/LOG.md, "Four bits").
    """
    groups = F.pad(weight, (0, -weight.shape[1] % scheme.group)).view(len(weight), -1, scheme.group)
    furthest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))  # (out, groups, 1)
    lowest, highest = bounds(scheme)
    if scheme.kind == "int8":
        return _usable(furthest / highest).squeeze(-1)
    best = least = None
    for share in SHARES:
        scales = _usable(furthest * (share / lowest))
        errors = groups - (groups / scales).round_().clamp_(lowest, highest).mul_(scales)
        total = errors.square_().square_().sum(-1, keepdim=True)
        if best is None or least is None:
            best, least = scales, total
            continue
        best = torch.where(total < least, scales, best)
        least = torch.minimum(total, least)
    assert best is not None
    return best.squeeze(-1)


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


def _usable(scales: Tensor) -> Tensor:
    """Round scales to bfloat16; a group of zeros, or of numbers too small for any scale, gets 1."""
    scales = scales.bfloat16()
    return torch.where(scales == 0, 1, scales)


def _spread(scales: Tensor, scheme: Scheme, weight: Tensor) -> Tensor:
    """Return the scale of each weight, (out, in) float32."""
    return scales.float().repeat_interleave(scheme.group, dim=1)[:, : weight.shape[1]]
