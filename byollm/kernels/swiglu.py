"""The gated linear unit of SwiGLU: silu(gate) * up (Shazeer, 2020)."""

import torch.nn.functional as F
from torch import Tensor


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(`gate`) * `up`, where silu(x) = x * sigmoid(x); both have the same shape."""
    return F.silu(gate) * up
