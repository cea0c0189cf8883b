"""Attention of many queries a sequence over the paged cache, in blocks (flash attention).

    out_i = sum_j exp(s_ij) v_j / sum_j exp(s_ij),  s_ij = q_i . k_j / sqrt(head_dim)
                                                         over i - window < j <= i, j of the same sequence

Sources: Dao, "FlashAttention-2", 2023; Kwon et al., "PagedAttention", 2023. The flat batch of sequences of
different lengths is taken from vLLM's unified attention. Defined by
`byollm.kernels.paged_attention.paged_prefill`.

Products bound it when the prompt is long: 4 * head_dim * heads operations for each pair of positions; an
A10G's 70 TFLOP/s (bfloat16 with float32 sums) give the 2 * 10^6 pairs of a StableLM-3B prompt of 2048 and a
layer 0.3 ms. With few rows (drafts that are verified, the tail of a prompt) it is the reading of keys, as in
decoding. A program takes a block of rows of one sequence and one key head: the query heads that share it are
rows of the same products. It finds its sequence by bisection, so that no length has to be known on the host:
block number i of the sequence s stands at first_rows[s] // rows_per_block + s + i, and some are empty.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.paged_decode import DOT
from byollm.kernels.gpu.tuning import Configuration, configuration


@triton.jit(
    do_not_specialize=["sequences"],
    do_not_specialize_on_alignment=["tables_ptr", "first_rows_ptr", "starts_ptr", "lengths_ptr"],
)
def _prefill_kernel(
    q_ptr,
    keys_ptr,
    values_ptr,
    tables_ptr,
    first_rows_ptr,
    starts_ptr,
    lengths_ptr,
    out_ptr,  # (rows, heads, SIZE)
    sequences,
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
    SIZE_BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,  # ROWS * GROUP, rounded up
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    # The last blocks of a prompt see the most keys: they begin first.
    number = tl.num_programs(0) - 1 - tl.program_id(0)
    kv_head = tl.program_id(1)
    sequence, above = 0, sequences  # the last sequence whose blocks begin at this number or before
    while above - sequence > 1:
        middle = (sequence + above) // 2
        if tl.load(first_rows_ptr + middle) // ROWS + middle <= number:
            sequence = middle
        else:
            above = middle
    begin = tl.load(first_rows_ptr + sequence)
    index = number - begin // ROWS - sequence  # of the block in the sequence
    rows = tl.load(first_rows_ptr + sequence + 1) - begin
    if index * ROWS < rows:
        start, length = tl.load(starts_ptr + sequence), tl.load(lengths_ptr + sequence)
        member = tl.arange(0, BLOCK_M)
        row = index * ROWS + member // GROUP
        there = (row < rows) & (member < ROWS * GROUP)
        query = start + row  # positions
        head = kv_head * GROUP + member % GROUP
        channel = tl.arange(0, SIZE_BLOCK)[None, :]
        q_mask = there[:, None] & (channel < SIZE)
        place = (begin + row).to(tl.int64)
        q = tl.load(q_ptr + (place * q_row + head * q_head)[:, None] + channel, q_mask, other=0.0).to(DOT)

        end = tl.minimum(start + tl.minimum((index + 1) * ROWS, rows), length)
        first = tl.maximum(start + index * ROWS + 1 - WINDOW, 0) // PAGE * PAGE if WINDOW else 0
        clear = tl.minimum(start + index * ROWS + 1, end)  # all rows see the keys below
        tables_ptr += sequence * table_row
        keys_ptr += kv_head * PAGE * SIZE
        values_ptr += kv_head * PAGE * SIZE
        level = tl.full((BLOCK_M,), -1e30, tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        sums = tl.zeros((BLOCK_M, SIZE_BLOCK), tl.float32)
        for position in tl.range(first, end, BLOCK_N, num_stages=STAGES):
            key_place = position + tl.arange(0, BLOCK_N)
            known = key_place < end
            block = tl.load(tables_ptr + key_place // PAGE, known, other=0).to(tl.int64)
            line = (block * KV_HEADS * PAGE + key_place % PAGE)[:, None] * SIZE + channel
            mask = known[:, None] & (channel < SIZE)
            key = tl.load(keys_ptr + line, mask, other=0.0).to(DOT)
            value = tl.load(values_ptr + line, mask, other=0.0).to(DOT)
            scores = tl.dot(q, tl.trans(key), input_precision="ieee") * scale
            seen = key_place[None, :] <= query[:, None]
            if WINDOW:
                seen &= key_place[None, :] > query[:, None] - WINDOW
                scores = tl.where(seen, scores, -1e30)
            elif position + BLOCK_N > clear:
                scores = tl.where(seen, scores, -1e30)
            higher = tl.maximum(level, tl.max(scores, 1))
            weights = tl.exp2(scores - higher[:, None])
            if WINDOW:  # a row may not see a key yet, and then has no better level than the hidden ones
                weights = tl.where(seen, weights, 0.0)
            shrink = tl.exp2(level - higher)
            total = total * shrink + tl.sum(weights, 1)
            sums = tl.dot(weights.to(DOT), value, sums * shrink[:, None], input_precision="ieee")
            level = higher
        out = sums / tl.where(total == 0, 1.0, total)[:, None]
        line = (place * KV_HEADS * GROUP + head)[:, None] * SIZE
        tl.store(out_ptr + line + channel, out, q_mask)


def default_prefill(rows: int, group: int, size: int, itemsize: int) -> Configuration:
    """Blocks of queries as high as there are rows, up to what the memory of an A10G's processor holds.

    Args:
        rows: of a sequence, on average, all of them in the batch.
        group: query heads that share a key head.
        size: of a head.
        itemsize: bytes of a number.
    """
    wide = triton.next_power_of_2(size) * itemsize > 256  # bytes of a row of keys
    most = 32 if itemsize > 2 else 64 if wide else 128
    block_m = max(16, triton.next_power_of_2(group), min(most, triton.next_power_of_2(rows * group)))
    block_n = 16 if itemsize > 2 else 32 if wide else 64
    return {"BLOCK_M": block_m, "BLOCK_N": block_n, "STAGES": 2, "num_warps": 8 if block_m > 64 else 4}


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
    """Attend from several positions of each sequence to themselves and what came before, shape of `q`.

    The arguments are those of `byollm.kernels.paged_attention.paged_prefill`; the host reads none of them. A
    sequence may have no rows. The channels of a head of `q` lie side by side; the caches are contiguous.
    """
    tokens, heads, size = q.shape
    sequences = len(starts)
    kv_heads, page = key_cache.shape[1:3]
    group = heads // kv_heads
    average = -(-tokens // sequences)
    config = configuration("paged_prefill", default_prefill, average, group, size, q.element_size())
    rows = config["BLOCK_M"] // group
    out = torch.empty(tokens, heads, size, dtype=q.dtype, device=q.device)
    _prefill_kernel[(tokens // rows + sequences, kv_heads)](
        q,
        key_cache,
        value_cache,
        tables,
        first_rows,
        starts,
        lengths,
        out,
        sequences,
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
        SIZE_BLOCK=max(16, triton.next_power_of_2(size)),
        ROWS=rows,
        **config,
    )
    return out
