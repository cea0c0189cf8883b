"""Cross entropy from hidden states, without ever holding the scores of all tokens."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100
CHUNK_ELEMENTS = 2**21  # scores held at a time: 8 MB of float32 stay in a CPU's cache


def cross_entropy_sum(hidden: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sum over tokens of -log softmax(hidden head^T)[target]; targets of -100 do not count.

    The gradient of each chunk of scores is computed while they are in the cache, so they are neither kept nor
    computed twice (the idea of Liger-Kernel's fused linear cross entropy, https://arxiv.org/abs/2410.10989).

    Args:
        hidden: (tokens, hidden)
        head: (vocab, hidden)
        targets: (tokens,)
        dtype: of the matrix products
    """
    total: Tensor = _CrossEntropySum.apply(hidden, head, targets, dtype)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropySum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        x, w = hidden.to(dtype), head.to(dtype)
        d_hidden, d_head = torch.empty_like(x), torch.zeros_like(head)
        total = hidden.new_zeros((), dtype=torch.float32)
        size = max(1, CHUNK_ELEMENTS // head.shape[0])
        for start in range(0, x.shape[0], size):
            part, wanted = x[start : start + size], targets[start : start + size]
            counted = (wanted != IGNORED).float()
            index = wanted.clamp(min=0)[:, None]  # any valid index: what is ignored gets weight 0
            log_p = F.log_softmax((part @ w.mT).float(), dim=-1)
            total -= (log_p.gather(1, index)[:, 0] * counted).sum()
            gradient = log_p.exp_()  # softmax - one-hot
            gradient.scatter_add_(1, index, gradient.new_full((1, 1), -1.0).expand_as(index))
            gradient = gradient.mul_(counted[:, None]).to(dtype)
            torch.mm(gradient, w, out=d_hidden[start : start + size])
            if dtype == torch.float32:
                d_head.addmm_(gradient.mT, part)
            else:
                d_head += gradient.mT @ part
        ctx.save_for_backward(d_hidden, d_head)
        ctx.dtype = hidden.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_head = ctx.saved_tensors
        return (d_hidden * scale).to(ctx.dtype), d_head * scale, None, None
