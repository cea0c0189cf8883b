"""Causal self-attention for training on a CPU in float32, about twice as fast there as torch's own.

    out = softmax(q k^T / sqrt(head_dim), causal) v

Torch's CPU kernel computes the products with the future and throws them away. Here queries go in blocks of
64, each multiplied only with the keys up to its end; query heads that share keys are one matrix product; the
probabilities are kept for the backward pass, half of time x time for each head. To torch.compile the two
passes are opaque.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 64  # queries: small enough to waste little on the diagonal, large enough for the matrix products


def blocked_attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend causally within each row; an `Attend` of `byollm.modeling`.

    Args:
        layer: not needed
        q: (batch, time, heads, head_dim) float32
        k: (batch, time, kv_heads, head_dim)
        v: as `k`

    Returns:
        (batch, time, heads, head_dim)
    """
    batch, time, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    grouped = q.reshape(batch, time, kv_heads, heads // kv_heads, head_dim).permute(0, 2, 3, 1, 4)
    out, _ = _forward(
        grouped.reshape(batch * kv_heads, heads // kv_heads, time, head_dim),
        k.transpose(1, 2).reshape(batch * kv_heads, time, head_dim),
        v.transpose(1, 2).reshape(batch * kv_heads, time, head_dim),
    )
    by_head: Tensor = out.view(batch, heads, time, head_dim)
    return by_head.transpose(1, 2)


@torch.library.custom_op("byollm::causal_attention", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output, shaped as `q` (n, group, time, head_dim), and all blocks' probabilities, flat."""
    n, group, time, head_dim = q.shape
    out, kept = torch.empty_like(q), q.new_empty(_kept(n, group, time))
    future = torch.ones(BLOCK, BLOCK, dtype=torch.bool).triu(1)
    for start, end, at in _blocks(n, group, time):
        size = end - start
        queries = q[:, :, start:end].reshape(n, group * size, head_dim)
        p = kept[at : at + n * group * size * end].view(n, group * size, end)
        torch.bmm(queries, k[:, :end].mT, out=p)
        p.mul_(1 / math.sqrt(head_dim))
        p.view(n, group, size, end)[..., start:].masked_fill_(future[:size, :size], -math.inf)
        torch.softmax(p, dim=-1, out=p)
        out[:, :, start:end] = torch.bmm(p, v[:, :end]).view(n, group, size, head_dim)
    return out, kept


@torch.library.custom_op("byollm::causal_attention_backward", mutates_args=())
def _backward(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    n, group, time, head_dim = q.shape
    d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    delta = (d_out * out).sum(-1, keepdim=True)  # what the softmax takes off each row of d_scores
    for start, end, at in _blocks(n, group, time):
        size = end - start
        p = kept[at : at + n * group * size * end].view(n, group * size, end)
        d_block = d_out[:, :, start:end].reshape(n, group * size, head_dim)
        d_v[:, :end].baddbmm_(p.mT, d_block)
        d_scores = torch.bmm(d_block, v[:, :end].mT)
        d_scores.sub_(delta[:, :, start:end].reshape(n, group * size, 1)).mul_(p)
        d_q[:, :, start:end] = torch.bmm(d_scores, k[:, :end]).view(n, group, size, head_dim)
        d_k[:, :end].baddbmm_(d_scores.mT, q[:, :, start:end].reshape(n, group * size, head_dim))
    scale = 1 / math.sqrt(head_dim)
    return d_q.mul_(scale), d_k.mul_(scale), d_v


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    n, group, time, _ = q.shape
    return torch.empty_like(q), q.new_empty(_kept(n, group, time))


@_backward.register_fake
def _(
    d_out: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _gradients(ctx: Any, d_out: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = _backward(d_out.contiguous(), *ctx.saved_tensors)
    return gradients


_forward.register_autograd(_gradients, setup_context=_remember)


def _blocks(n: int, group: int, time: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first query, end, place in the kept probabilities) of each block."""
    at = 0
    for start in range(0, time, BLOCK):
        end = min(start + BLOCK, time)
        yield start, end, at
        at += n * group * (end - start) * end


def _kept(n: int, group: int, time: int) -> int:
    return sum(n * group * (end - start) * end for start, end, _ in _blocks(n, group, time))
