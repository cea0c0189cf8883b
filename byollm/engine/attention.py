"""Attention of one step over the paged cache."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from byollm.engine.kv_cache import BLOCK_SIZE, KVCache, LayerCache

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
    blocks: Sequence[int]


class _Group(NamedTuple):
    """Sequences with one row each, attended to in one call."""

    rows: slice
    pages: Tensor  # (rows * kv_heads * blocks,) of the cache
    mask: Tensor  # (rows, 1, 1, blocks * BLOCK_SIZE) added to the scores


class _Prompt(NamedTuple):
    """Several rows of one sequence."""

    rows: slice
    pages: Tensor | None  # (kv_heads * blocks,) of the cache; None: all keys are in the batch itself
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
        places = [(span.blocks, position) for span in spans for position in range(span.start, span.end)]
        self._rows = cache.rows(
            [blocks[position // BLOCK_SIZE] for blocks, position in places],
            [position % BLOCK_SIZE for _, position in places],
        )
        self._plans = {window: self._plan(spans, window) for window in dict.fromkeys(windows)}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (tokens, heads, head_dim), given k and v (tokens, kv_heads, head_dim); shape of q."""
        cache = self._cache.layers[layer]
        cache.write(self._rows, k, v)
        plan = self._plans[self._windows[layer]]
        if len(plan.groups) == 1 and not plan.prompts:
            return _attend_group(plan.groups[0], q, cache)
        out = torch.empty_like(q)
        for group in plan.groups:
            out[group.rows] = _attend_group(group, q[group.rows], cache)
        for prompt in plan.prompts:
            rows = prompt.rows
            out[rows] = _attend_prompt(prompt, q[rows], k[rows], v[rows], cache)
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
        table, ends = [], []
        for span in spans:
            used = -(-span.end // BLOCK_SIZE)
            first = max(0, used - size)
            blocks = list(span.blocks[first:used])
            # Padding repeats a block of the sequence itself: another's may hold numbers that are not finite.
            table.append(blocks + blocks[-1:] * (size - len(blocks)))
            ends.append(span.end - first * BLOCK_SIZE)
        pages = self._cache.pages(torch.tensor(table, device=self._cache.device))
        masks, last = self._masks(size * BLOCK_SIZE, window)
        mask = masks[torch.tensor([last - end for end in ends], device=self._cache.device)]
        return _Group(slice(row, row + len(spans)), pages, mask[:, None, None])

    def _prompt(self, span: Span, row: int, window: int | None) -> _Prompt:
        rows = slice(row, row + span.end - span.start)
        if span.start == 0 and (window is None or span.end <= window):
            return _Prompt(rows, None, None, span.end)
        first = 0 if window is None else max(0, span.start + 1 - window) // BLOCK_SIZE
        used = -(-span.end // BLOCK_SIZE)
        pages = self._cache.pages(torch.tensor([span.blocks[first:used]], device=self._cache.device))
        keys = span.end - first * BLOCK_SIZE
        masks, last = self._masks(keys, window)
        # The last row ends with the last key, and each row before it one key earlier.
        return _Prompt(rows, pages, masks[last - keys : last - keys + span.end - span.start].flip(0), keys)

    def _masks(self, size: int, window: int | None) -> tuple[Tensor, int]:
        """Return masks over `size` keys, and `last`: the mask of a row is number `last` minus its end."""
        window = size if window is None else min(window, size)
        return _sliding_masks(size, window, self._cache.dtype, self._cache.device), size + window


@lru_cache(maxsize=64)
def _sliding_masks(size: int, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what may be added to the scores of `size` keys, (size + window + 1, size): 0 or minus infinity.

    Mask number size + window - end lets the `window` keys before `end` count. All are views of one vector.
    """
    hidden = torch.full((size,), float("-inf"), dtype=dtype, device=device)
    return torch.cat([hidden, torch.zeros(window, dtype=dtype, device=device), hidden]).unfold(0, size, 1)


def _same_bucket(span: Span, other: Span) -> bool:
    return other.end - other.start == 1 and bucket(other) == bucket(span)


def _attend_group(group: _Group, q: Tensor, cache: LayerCache) -> Tensor:
    rows, heads, size = q.shape
    keys, values = cache.read(group.pages, rows)
    # The query heads that share a key head take the place of query positions: nothing is repeated.
    grouped = q.view(rows, keys.shape[1], -1, size)
    return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=group.mask).reshape(
        rows, heads, size
    )


def _attend_prompt(prompt: _Prompt, q: Tensor, k: Tensor, v: Tensor, cache: LayerCache) -> Tensor:
    if prompt.pages is None:
        k, v = k.transpose(0, 1)[None], v.transpose(0, 1)[None]
    else:
        k, v = (x[:, :, : prompt.keys] for x in cache.read(prompt.pages, 1))
    q = q.transpose(0, 1)[None]
    causal = prompt.mask is None
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=prompt.mask, is_causal=causal, enable_gqa=True)
    return out[0].transpose(0, 1)
