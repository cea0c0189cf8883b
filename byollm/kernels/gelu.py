"""The tanh approximation of GELU, the activation of GPT-2 (Hendrycks and Gimpel, 2016)."""

import torch.nn.functional as F
from torch import Tensor


def gelu(x: Tensor) -> Tensor:
    """Return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))."""
    return F.gelu(x, approximate="tanh")
