"""Attention over the paged cache, written plainly: what the kernels compute."""

from itertools import pairwise

import torch
from torch import Tensor


def paged_decode(
    q: Tensor, key_cache: Tensor, value_cache: Tensor, tables: Tensor, lengths: Tensor, window: int | None
) -> Tensor:
    """Attend from the last position of each sequence: softmax(q k^T / sqrt(head_dim)) v.

    Args:
        q: (sequences, heads, head_dim)
        key_cache: (blocks, kv_heads, block size, head_dim), where kv_heads divides heads
        value_cache: as `key_cache`
        tables: (sequences, most blocks) int32, the cache blocks of each sequence in order
        lengths: (sequences,) int32, its positions, the last included; a sequence of length 0 gets zeros
        window: only the last so many positions are seen; None: all

    Returns:
        (sequences, heads, head_dim)
    """
    firsts = torch.arange(len(q) + 1, device=q.device)
    return paged_prefill(q, key_cache, value_cache, tables, firsts, lengths - 1, lengths, window)


def paged_prefill(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    tables: Tensor,
    first_rows: Tensor,
    starts: Tensor,
    lengths: Tensor,
    window: int | None,
) -> Tensor:
    """Attend from several positions of each sequence to themselves and what came before, all in the cache.

    Args:
        q: (tokens, heads, head_dim), the sequences one after the other
        key_cache: (blocks, kv_heads, block size, head_dim), where kv_heads divides heads
        value_cache: as `key_cache`
        tables: (sequences, most blocks) int32, the cache blocks of each sequence in order
        first_rows: (sequences + 1,) int32, the row of q where each begins, and at last where they end
        starts: (sequences,) int32, the position of that row in its sequence
        lengths: (sequences,) int32, the positions in the cache
        window: a position sees only the last so many, itself included; None: all

    Returns:
        (tokens, heads, head_dim); rows after the last sequence are undefined
    """
    kv_heads, size = key_cache.shape[1], q.shape[2]
    out = torch.zeros_like(q)
    bounds: list[int] = first_rows.tolist()
    for sequence, (first, end) in enumerate(pairwise(bounds)):
        length = int(lengths[sequence])
        if length == 0 or first == end:
            continue
        table = tables[sequence, : -(-length // key_cache.shape[2])].long()
        # (blocks, kv_heads, block size, head_dim) -> (kv_heads, positions, head_dim)
        keys, values = (x[table].transpose(0, 1).flatten(1, 2)[:, :length] for x in (key_cache, value_cache))
        rows = q[first:end].reshape(end - first, kv_heads, -1, size)  # (rows, kv_heads, group, head_dim)
        scores = torch.einsum("rhgd,hkd->hgrk", rows.float(), keys.float()) / size**0.5
        query = int(starts[sequence]) + torch.arange(end - first, device=q.device)[:, None]
        key = torch.arange(length, device=q.device)
        seen = key <= query if window is None else (key <= query) & (key > query - window)
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        out[first:end] = torch.einsum("hgrk,hkd->rhgd", weights, values.float()).flatten(1, 2).to(q.dtype)
    return out
