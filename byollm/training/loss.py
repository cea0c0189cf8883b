"""Cross entropy from hidden states, without ever holding the scores of all tokens."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100
SMALLEST_P = 1e-37  # where a probability would vanish, the loss stays finite: 85 nats
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
        counted = (targets != IGNORED).float()[:, None]
        partly = not bool(counted.all())
        index = targets.clamp(min=0)[:, None]  # any valid index: what is ignored gets weight 0
        for start in range(0, x.shape[0], size):
            part, at, counts = (tensor[start : start + size] for tensor in (x, index, counted))
            scores = (part @ w.mT).float()
            p = torch.softmax(scores, dim=-1, out=scores)
            total -= (p.gather(1, at).clamp_(min=SMALLEST_P).log_() * counts).sum()
            p.scatter_add_(1, at, p.new_full((1, 1), -1.0).expand_as(at))  # the gradient of the scores
            gradient = (p.mul_(counts) if partly else p).to(dtype)
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
