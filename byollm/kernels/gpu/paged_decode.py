"""Attention of one query a sequence over the paged cache, its context split among programs (flash-decoding).

    s_n = q . k_n / sqrt(head_dim),  out = sum_n exp(s_n) v_n / sum_n exp(s_n)      over the positions seen

Sources: Dao et al., "Flash-Decoding", 2023; Milakov and Gimelshein, "Online normalizer calculation for
softmax", 2018; Kwon et al., "PagedAttention", 2023. Defined by `byollm.kernels.paged_attention.paged_decode`.

Memory bounds it: keys and values of the context are read once, 2 * kv_heads * head_dim * itemsize bytes a
position, since the query heads that share a key head share its loads (as rows of one small product). On an
A10G (600 GB/s) 1000 positions of StableLM-3B in bfloat16 take 0.55 ms over its 32 layers. A program takes one
key head of one sequence and a share of its positions, so that a single long sequence occupies the whole GPU;
a second kernel adds up the shares. How they are cut depends on the sequence's own length and on the number of
splits alone, and the shares are added in one order.

Where each query has keys of its own (no sharing) there is no product to speak of: every position keeps its
own running maximum and sum, and they meet once, at the end.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.tuning import Configuration, configuration

PROGRAMS = 320  # four for each of the 80 processors of an A10G
LEAST_SHARE = 128  # positions worth a program of their own
DOT = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


@triton.jit(do_not_specialize_on_alignment=["tables_ptr", "lengths_ptr"])
def _decode_kernel(
    q_ptr,
    keys_ptr,
    values_ptr,
    tables_ptr,
    lengths_ptr,
    out_ptr,  # (sequences, heads, SPLITS, SIZE)
    level_ptr,  # (sequences, heads, SPLITS): log2 of the sum of exponentials of each share
    q_row,
    q_head,
    table_row,
    scale,  # of the scores, in powers of two
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    SIZE: tl.constexpr,
    PAGE: tl.constexpr,
    WINDOW: tl.constexpr,
    DOT: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    SIZE_BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):
    sequence, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths_ptr + sequence)
    first = tl.maximum(length - WINDOW, 0) if WINDOW else 0
    begin = first // PAGE * PAGE
    share = (length - begin + SPLITS * BLOCK - 1) // (SPLITS * BLOCK) * BLOCK
    start = begin + split * share
    end = tl.minimum(start + share, length)

    channel = tl.arange(0, SIZE_BLOCK)[None, :]
    member = tl.arange(0, GROUP_BLOCK)
    head = kv_head * GROUP + member
    q_mask = (member[:, None] < GROUP) & (channel < SIZE)
    q = tl.load(q_ptr + sequence * q_row + head[:, None] * q_head + channel, q_mask, other=0.0)
    tables_ptr += sequence * table_row
    keys_ptr += kv_head * PAGE * SIZE
    values_ptr += kv_head * PAGE * SIZE

    if GROUP == 1:
        q = q.to(tl.float32) * scale
        best = tl.full((BLOCK,), -1e30, tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        sums = tl.zeros((BLOCK, SIZE_BLOCK), tl.float32)
        for position in tl.range(start, end, BLOCK, num_stages=STAGES):
            place = position + tl.arange(0, BLOCK)
            seen = (place >= first) & (place < end)
            block = tl.load(tables_ptr + place // PAGE, seen, other=0).to(tl.int64)
            row = (block * KV_HEADS * PAGE + place % PAGE)[:, None] * SIZE + channel
            mask = seen[:, None] & (channel < SIZE)
            key = tl.load(keys_ptr + row, mask, other=0.0).to(tl.float32)
            value = tl.load(values_ptr + row, mask, other=0.0).to(tl.float32)
            scores = tl.where(seen, tl.sum(q * key, 1), -1e30)
            higher = tl.maximum(best, scores)
            shrink, weights = tl.exp2(best - higher), tl.where(seen, tl.exp2(scores - higher), 0.0)
            total = total * shrink + weights
            sums = sums * shrink[:, None] + weights[:, None] * value
            best = higher
        level = tl.max(best, 0)
        shrink = tl.exp2(best - level)
        total = tl.sum(total * shrink, 0) + tl.zeros((1,), tl.float32)
        sums = tl.sum(sums * shrink[:, None], 0)[None, :]
        level += tl.zeros((1,), tl.float32)
    else:
        q = q.to(DOT)
        level = tl.full((GROUP_BLOCK,), -1e30, tl.float32)
        total = tl.zeros((GROUP_BLOCK,), tl.float32)
        sums = tl.zeros((GROUP_BLOCK, SIZE_BLOCK), tl.float32)
        for position in tl.range(start, end, BLOCK, num_stages=STAGES):
            place = position + tl.arange(0, BLOCK)
            seen = (place >= first) & (place < end)
            block = tl.load(tables_ptr + place // PAGE, seen, other=0).to(tl.int64)
            row = (block * KV_HEADS * PAGE + place % PAGE)[:, None] * SIZE + channel
            mask = seen[:, None] & (channel < SIZE)
            key = tl.load(keys_ptr + row, mask, other=0.0).to(DOT)
            value = tl.load(values_ptr + row, mask, other=0.0).to(DOT)
            scores = tl.dot(q, tl.trans(key), input_precision="ieee") * scale
            scores = tl.where(seen[None, :], scores, -1e30)
            higher = tl.maximum(level, tl.max(scores, 1))
            weights = tl.where(seen[None, :], tl.exp2(scores - higher[:, None]), 0.0)
            shrink = tl.exp2(level - higher)
            total = total * shrink + tl.sum(weights, 1)
            sums = tl.dot(weights.to(DOT), value, sums * shrink[:, None], input_precision="ieee")
            level = higher

    empty = total == 0  # no positions: zeros, at a level that counts for nothing beside any other
    row = (sequence * KV_HEADS * GROUP + head) * SPLITS + split
    tl.store(out_ptr + row[:, None] * SIZE + channel, sums / tl.where(empty, 1.0, total)[:, None], q_mask)
    if SPLITS > 1:
        level = tl.where(empty, -1e30, level + tl.log2(tl.where(empty, 1.0, total)))
        tl.store(level_ptr + row, level, member < GROUP)


@triton.jit
def _reduce_kernel(
    parts_ptr,  # (rows, SPLITS, SIZE) float32
    level_ptr,  # (rows, SPLITS) float32
    out_ptr,  # (rows, SIZE)
    SPLITS: tl.constexpr,
    SIZE: tl.constexpr,
    SPLIT_BLOCK: tl.constexpr,
    SIZE_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    split, channel = tl.arange(0, SPLIT_BLOCK), tl.arange(0, SIZE_BLOCK)
    level = tl.load(level_ptr + row * SPLITS + split, split < SPLITS, other=float("-inf"))
    weights = tl.exp2(level - tl.max(level, 0))
    place = (row * SPLITS + split)[:, None] * SIZE + channel[None, :]
    mask = (split < SPLITS)[:, None] & (channel < SIZE)[None, :]
    parts = tl.load(parts_ptr + place, mask, other=0.0)
    out = tl.sum(parts * weights[:, None], 0) / tl.sum(weights, 0)
    tl.store(out_ptr + row * SIZE + channel, out, channel < SIZE)


def default_decode(
    sequences: int, kv_heads: int, group: int, size: int, capacity: int, itemsize: int
) -> Configuration:
    """As many splits as occupy the GPU, unless shares grow small.

    Args:
        sequences: rows of the batch.
        kv_heads: key heads.
        group: query heads that share one.
        size: of a head.
        capacity: the most positions that a sequence can have.
        itemsize: bytes of a number.
    """
    splits = triton.next_power_of_2(triton.cdiv(PROGRAMS, sequences * kv_heads))
    splits = min(splits, triton.next_power_of_2(triton.cdiv(capacity, LEAST_SHARE)), 64)
    # Without products a second stage costs so many registers that fewer programs fit: they hide the waiting.
    block, stages = (32, 1) if group == 1 else (64, 2) if itemsize == 2 else (16, 2)
    return {"SPLITS": splits, "BLOCK": block, "STAGES": stages, "num_warps": 4}


def paged_decode(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    tables: Tensor,
    lengths: Tensor,
    window: int | None,
    splits: int | None = None,
) -> Tensor:
    """Attend from the last position of each sequence, (sequences, heads, head_dim).

    The arguments are those of `byollm.kernels.paged_attention.paged_decode`. Nothing waits for `lengths`, so
    a graph that was captured serves any of them. The channels of a head of `q` lie side by side; the caches
    are contiguous.

    Args:
        q: the queries.
        key_cache: the keys.
        value_cache: the values.
        tables: the cache blocks of each sequence.
        lengths: how many positions it has.
        window: how many are seen.
        splits: in how many shares the positions of each sequence are cut; None: as many as occupy the GPU.
    """
    sequences, heads, size = q.shape
    kv_heads, page = key_cache.shape[1:3]
    group = heads // kv_heads
    capacity = tables.shape[1] * page
    config = configuration(
        "paged_decode", default_decode, sequences, kv_heads, group, size, capacity, q.element_size()
    )
    splits = splits or config["SPLITS"]
    out = torch.empty(sequences, heads, size, dtype=q.dtype, device=q.device)
    parts = out if splits == 1 else out.new_empty(sequences, heads, splits, size, dtype=torch.float32)
    level = out if splits == 1 else out.new_empty(sequences, heads, splits, dtype=torch.float32)
    _decode_kernel[(sequences, kv_heads, splits)](
        q,
        key_cache,
        value_cache,
        tables,
        lengths,
        parts,
        level,
        q.stride(0),
        q.stride(1),
        tables.stride(0),
        math.log2(math.e) / math.sqrt(size),
        KV_HEADS=kv_heads,
        GROUP=group,
        SIZE=size,
        PAGE=page,
        WINDOW=window or 0,
        DOT=DOT[q.dtype],
        GROUP_BLOCK=1 if group == 1 else max(16, triton.next_power_of_2(group)),
        SIZE_BLOCK=max(16, triton.next_power_of_2(size)),
        **(config | {"SPLITS": splits}),
    )
    if splits > 1:
        _reduce_kernel[(sequences * heads,)](
            parts,
            level,
            out,
            SPLITS=splits,
            SIZE=size,
            SPLIT_BLOCK=triton.next_power_of_2(splits),
            SIZE_BLOCK=triton.next_power_of_2(size),
            num_warps=2,
        )
    return out
