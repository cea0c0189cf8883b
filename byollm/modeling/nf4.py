"""NF4 as bitsandbytes computes it, so that a model serves with the numbers that QLoRA trained on.

Dettmers et al., 2023: QLoRA. The arithmetic is that of bitsandbytes 0.50, on any device.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.kernels.packed import NF4_GROUP, NF4_VALUES, PackedWeight, Scheme

SMALLEST = 1e-38
SCALES_GROUP = 256
"""Scales that share a scale of their own in double quantisation."""


def pack_nf4(weight: Tensor, *, double: bool = False) -> PackedWeight:
    """Pack a weight (out, in) as `bitsandbytes.functional.quantize_4bit` does."""
    flat = weight.reshape(-1).float()
    groups = F.pad(flat, (0, -flat.numel() % NF4_GROUP)).view(-1, NF4_GROUP)
    scales = groups.abs().amax(dim=-1)
    parts = (groups * (1.0 / scales.clamp(min=SMALLEST))[:, None]).clamp_(-1, 1).flatten()[: flat.numel()]
    values = torch.tensor(NF4_VALUES, device=flat.device)
    codes = torch.bucketize(parts, (values[:-1] + values[1:]) / 2, out_int32=True).to(torch.uint8)
    codes = F.pad(codes, (0, codes.numel() % 2), value=NF4_VALUES.index(0.0))
    shape = (weight.shape[0], weight.shape[1])
    stored = _doubly_rounded(scales) if double else scales
    return PackedWeight(codes[::2] << 4 | codes[1::2], stored, Scheme("nf4", NF4_GROUP, double), shape)


def _doubly_rounded(scales: Tensor) -> Tensor:
    """Round scales to 8 bits around their mean and back, as `compress_statistics` does."""
    mean = scales.mean()
    around = scales - mean
    groups = F.pad(around, (0, -around.numel() % SCALES_GROUP)).view(-1, SCALES_GROUP)
    furthest = groups.abs().amax(dim=-1, keepdim=True)
    values = _dynamic_map().to(scales.device)
    parts = groups * (1.0 / furthest.clamp(min=SMALLEST))
    codes = torch.bucketize(parts, (values[:-1] + values[1:]) / 2, out_int32=True)
    return (values[codes] * furthest).flatten()[: around.numel()] + mean


@cache
def _dynamic_map() -> Tensor:
    """Return the 256 values, ascending, of bitsandbytes' signed dynamic 8-bit type (Dettmers, 2015)."""
    data = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1, dtype=torch.float32)
        means = (edges[:-1] + edges[1:]) / 2.0
        data += (10 ** (exponent - 6) * means).tolist()
        data += (-(10 ** (exponent - 6)) * means).tolist()
    return torch.tensor(sorted(data), dtype=torch.float32)
