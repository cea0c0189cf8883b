"""Attention of one step over the paged cache."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.engine.kv_cache import BLOCK_SIZE, KVCache

SMALLEST_BUCKET = 4  # blocks


class Span(NamedTuple):
    """The rows of the flat batch that belong to one sequence.

    Attributes:
        start: position in the sequence of the first row.
        end: position after the last row.
        blocks: the sequence's cache blocks, at least up to `end`.
    """

    start: int
    end: int
    blocks: list[int]


class _Group(NamedTuple):
    """Sequences with one row each, attended to in one call."""

    rows: slice
    table: Tensor  # (rows * kv_heads * blocks,) rows of the cache seen as (blocks * kv_heads, ...)
    mask: Tensor  # (rows, 1, 1, blocks * BLOCK_SIZE) added to the scores


class _Prompt(NamedTuple):
    """Several rows of one sequence."""

    rows: slice
    table: Tensor | None  # (kv_heads * blocks,); None: all keys are in the batch itself
    mask: Tensor | None  # (rows, keys) added to the scores; None: plainly causal
    keys: int


class _Plan(NamedTuple):
    groups: list[_Group]
    prompts: list[_Prompt]


def bucket(span: Span) -> int:
    """Return the number of blocks to which a span of one row is padded: a power of two.

    It depends on the span alone, so a sequence meets the same shapes whoever its neighbours are.
    """
    blocks = -(-span.end // BLOCK_SIZE)
    return max(SMALLEST_BUCKET, 1 << (blocks - 1).bit_length())


class PagedAttention:
    """The `attend` of one step: writes the step's keys and values to the cache, then attends to it.

    Spans of one row come first in the batch, ordered by `bucket`; each bucket is gathered and attended to at
    once. Longer spans follow and are attended to one by one.

    Args:
        cache: the keys and values.
        spans: the sequences of the flat batch, in order.
        windows: for each layer, how many positions a position sees, itself included; None means all.
    """

    def __init__(self, cache: KVCache, spans: Sequence[Span], windows: Sequence[int | None]) -> None:
        self._cache = cache
        self._windows = windows
        device = cache.keys[0].device
        places = [
            (span.blocks[position // BLOCK_SIZE], position % BLOCK_SIZE)
            for span in spans
            for position in range(span.start, span.end)
        ]
        self._blocks, self._offsets = torch.tensor(places, device=device).unbind(1)
        self._plans = {window: self._plan(spans, window) for window in dict.fromkeys(windows)}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (tokens, heads, head_dim), given k and v (tokens, kv_heads, head_dim); shape of q."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[self._blocks, :, self._offsets] = k
        values[self._blocks, :, self._offsets] = v
        plan = self._plans[self._windows[layer]]
        if len(plan.groups) == 1 and not plan.prompts:
            return _attend_group(plan.groups[0], q, keys, values)
        out = torch.empty_like(q)
        for group in plan.groups:
            out[group.rows] = _attend_group(group, q[group.rows], keys, values)
        for prompt in plan.prompts:
            rows = prompt.rows
            out[rows] = _attend_prompt(prompt, q[rows], k[rows], v[rows], keys, values)
        return out

    def _plan(self, spans: Sequence[Span], window: int | None) -> _Plan:
        plan = _Plan([], [])
        row, index = 0, 0
        while index < len(spans):
            if spans[index].end - spans[index].start > 1:
                plan.prompts.append(self._prompt(spans[index], row, window))
                row += spans[index].end - spans[index].start
                index += 1
                continue
            last = index
            while last < len(spans) and _same_bucket(spans[index], spans[last]):
                last += 1
            plan.groups.append(self._group(spans[index:last], row, window))
            row += last - index
            index = last
        return plan

    def _group(self, spans: Sequence[Span], row: int, window: int | None) -> _Group:
        """Plan the spans of one bucket: gather the blocks of each, or the last that its window reaches."""
        size = bucket(spans[0])
        if window is not None:
            size = min(size, (window - 2) // BLOCK_SIZE + 2)
        table, firsts, ends = [], [], []
        for span in spans:
            used = -(-span.end // BLOCK_SIZE)
            first = max(0, used - size)
            blocks = span.blocks[first:used]
            # Padding repeats a block of the sequence itself: another's might hold numbers that are not
            # finite.
            table.append(blocks + blocks[-1:] * (size - len(blocks)))
            firsts.append(first * BLOCK_SIZE)
            ends.append(span.end)
        device = self._blocks.device
        keys = torch.arange(size * BLOCK_SIZE, device=device) + torch.tensor(firsts, device=device)[:, None]
        end = torch.tensor(ends, device=device)[:, None]
        hidden = keys >= end
        if window is not None:
            hidden |= keys < end - window
        return _Group(
            slice(row, row + len(spans)),
            self._head_table(torch.tensor(table, device=device)),
            self._mask(hidden),
        )

    def _prompt(self, span: Span, row: int, window: int | None) -> _Prompt:
        rows = slice(row, row + span.end - span.start)
        if span.start == 0 and (window is None or span.end <= window):
            return _Prompt(rows, None, None, span.end)
        device = self._blocks.device
        first = 0 if window is None else max(0, span.start + 1 - window) // BLOCK_SIZE
        used = -(-span.end // BLOCK_SIZE)
        key = torch.arange(first * BLOCK_SIZE, span.end, device=device)
        query = torch.arange(span.start, span.end, device=device)[:, None]
        hidden = key > query
        if window is not None:
            hidden |= key <= query - window
        table = self._head_table(torch.tensor([span.blocks[first:used]], device=device))
        return _Prompt(rows, table, self._mask(hidden)[:, 0, 0], len(key))

    def _head_table(self, table: Tensor) -> Tensor:
        """Turn block ids (rows, blocks) into rows of the cache seen as (blocks * kv_heads, ...), flat."""
        heads = torch.arange(self._cache.kv_heads, device=table.device)
        return (table[:, None, :] * self._cache.kv_heads + heads[:, None]).flatten()

    def _mask(self, hidden: Tensor) -> Tensor:
        """Turn hidden (rows, keys) into what is added to the scores, (rows, 1, 1, keys)."""
        dtype = self._cache.keys[0].dtype
        return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(
            hidden, float("-inf")
        )[:, None, None]


def _same_bucket(span: Span, other: Span) -> bool:
    return other.end - other.start == 1 and bucket(other) == bucket(span)


def _gather(tensor: Tensor, table: Tensor, sequences: int) -> Tensor:
    """Gather (sequences, kv_heads, keys, head_dim) from a layer's cache tensor."""
    blocks, heads, _, size = tensor.shape
    rows = tensor.view(blocks * heads, -1).index_select(0, table)
    return rows.view(sequences, heads, -1, size)


def _attend_group(group: _Group, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    rows, heads, size = q.shape
    kv_heads = keys.shape[1]
    # The query heads that share a key head take the place of query positions: nothing is repeated.
    out = F.scaled_dot_product_attention(
        q.view(rows, kv_heads, heads // kv_heads, size),
        _gather(keys, group.table, rows),
        _gather(values, group.table, rows),
        attn_mask=group.mask,
    )
    return out.reshape(rows, heads, size)


def _attend_prompt(prompt: _Prompt, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    if prompt.table is None:
        k, v = k.transpose(0, 1)[None], v.transpose(0, 1)[None]
    else:
        k = _gather(keys, prompt.table, 1)[:, :, : prompt.keys]
        v = _gather(values, prompt.table, 1)[:, :, : prompt.keys]
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None], k, v, attn_mask=prompt.mask, is_causal=prompt.mask is None, enable_gqa=True
    )
    return out[0].transpose(0, 1)
