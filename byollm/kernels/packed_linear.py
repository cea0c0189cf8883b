"""A linear layer over a packed weight: y = x W^T + b, where W is what `dequantise` gives."""

import torch.nn.functional as F
from torch import Tensor

from byollm.kernels.dequantise import dequantise
from byollm.kernels.packed import PackedWeight


def packed_linear(x: Tensor, packed: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """Map `x` (..., in) to (..., out), in the type of `x`."""
    return F.linear(x, dequantise(packed, x.dtype), None if bias is None else bias.to(x.dtype))
