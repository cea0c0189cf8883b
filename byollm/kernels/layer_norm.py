"""Layer normalisation: y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias (Ba et al., 2016)."""

import torch.nn.functional as F
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise the last axis of `x` (..., size); `weight` and `bias` are (size,).

    A `weight` of shape (heads, size) normalises each head of `x` (..., heads, size) with its own scale.
    The result has the dtype of `x`.
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if weight.dim() == 1:
        return F.layer_norm(x, (x.shape[-1],), weight, bias, eps)
    normed = F.layer_norm(x, (x.shape[-1],), None, None, eps) * weight
    return normed if bias is None else normed + bias


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the norm of `residual` + `x`, and that sum; both (..., size)."""
    total = residual + x
    return layer_norm(total, weight, bias, eps), total
