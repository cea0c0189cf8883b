"""Root mean square normalisation: y = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich, 2019)."""

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis of `x` (..., size) and scale it by `weight` (size,).

    The result has the dtype of `x`, so that under autocast the activations stay narrow.
    """
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the norm of `residual` + `x`, and that sum; both (..., size)."""
    total = residual + x
    return rms_norm(total, weight, eps), total
