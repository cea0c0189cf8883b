"""From packed weights back to numbers: what every kernel that multiplies by them computes with."""

import torch
from torch import Tensor

from byollm.kernels.packed import NF4_VALUES, PackedWeight


def dequantise(packed: PackedWeight, dtype: torch.dtype) -> Tensor:
    """Return the weight (out, in): code times scale in float32, rounded once to `dtype`."""
    codes, scales, scheme, (rows, columns) = packed
    if scheme.kind == "nf4":
        table = torch.tensor(NF4_VALUES, device=codes.device)
        indices = torch.stack((codes >> 4, codes & 15), dim=-1).flatten()[: rows * columns]
        values = table[indices.int()] * scales.repeat_interleave(scheme.group)[: rows * columns]
        return values.view(rows, columns).to(dtype)
    if scheme.kind == "int4":
        nibbles = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(1)[:, :columns]
        integers = nibbles.float() - 8
    else:
        integers = codes.float()
    return (integers * scales.float().repeat_interleave(scheme.group, dim=1)[:, :columns]).to(dtype)
