"""Rotary position embedding: pairs of channels turned with position (Su et al., 2021)."""

import torch
from torch import Tensor


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first channels of each head of `x` (..., heads, head_dim); the others pass unchanged.

    `cos` and `sin` have the shape (..., pairs): one angle per position and pair. Channel i pairs with channel
    i + pairs, the layout of Hugging Face checkpoints, and 2 * pairs <= head_dim.
    """
    pairs = cos.shape[-1]
    cos = cos.unsqueeze(-2).to(x.dtype)  # (..., 1, pairs): the same for every head
    sin = sin.unsqueeze(-2).to(x.dtype)
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    turned = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat(turned if rest.shape[-1] == 0 else (*turned, rest), dim=-1)
