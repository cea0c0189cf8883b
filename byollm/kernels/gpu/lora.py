"""LoRA over mixed rows: each row with the adapter in its slot, or none, for layers that read the same input.

    hidden = a[slot] x          (layers, rank), the "shrink"
    out   += b[slot] hidden     (outs,), each column with the hidden numbers of its layer, the "expand"

Sources: Hu et al., 2021; Chen et al., "Punica", 2023. Defined by `byollm.kernels.lora_grouped`.

Memory bounds it in decoding: the matrices of each adapter that the batch uses are read once for 16 rows,
(layers * in + outs) * rank * itemsize bytes; rank 16 of q, k and v of StableLM-3B in bfloat16 takes an A10G
0.8 us, so the launches count: two for all the layers that read one input. One would compute all of `hidden`
again in each of 120 programs: 10 MB from the cache and 20 steps one after the other, longer than a launch.

A program takes a block of rows and one slot: it ends at once where none of its rows has that slot, and
otherwise multiplies the whole block and keeps its own rows. So rows need not be sorted, the host reads
nothing, and one captured graph serves any mixture. The sum over `in` is shared among programs; the expand
adds up their parts, in one order.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.paged_decode import DOT
from byollm.kernels.gpu.tuning import Configuration, configuration

MOST_LAYERS = 3  # that read the same input: q, k and v


@triton.jit(do_not_specialize=["rows"], do_not_specialize_on_alignment=["slots_ptr"])
def _shrink_kernel(
    x_ptr,
    a_ptr,
    slots_ptr,
    hidden_ptr,  # (SPLITS, rows, LAYERS, RANK)
    rows,
    inputs,
    x_row,
    LAYERS: tl.constexpr,
    RANK: tl.constexpr,
    DOT: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    split, layer = tl.program_id(1) // LAYERS, tl.program_id(1) % LAYERS
    slot = tl.program_id(2)
    mine = tl.load(slots_ptr + row, row < rows, other=-1) == slot
    if tl.max(mine.to(tl.int32), 0) > 0:
        rank = tl.arange(0, RANK)[None, :]
        start = x_ptr + row.to(tl.int64)[:, None] * x_row
        weight = a_ptr + ((slot.to(tl.int64) * LAYERS + layer) * RANK + rank) * inputs
        hidden = tl.zeros((BLOCK_M, RANK), tl.float32)
        for first in range(split * BLOCK_K, inputs, SPLITS * BLOCK_K):
            k = first + tl.arange(0, BLOCK_K)
            x = tl.load(start + k[None, :], mine[:, None] & (k < inputs)[None, :], other=0.0).to(DOT)
            a = tl.load(weight + k[:, None], (k < inputs)[:, None], other=0.0).to(DOT)
            hidden = tl.dot(x, a, hidden, input_precision="ieee")
        place = ((split * rows + row)[:, None] * LAYERS + layer) * RANK + rank
        tl.store(hidden_ptr + place, hidden, mine[:, None])


@triton.jit(do_not_specialize=["rows"], do_not_specialize_on_alignment=["slots_ptr"])
def _expand_kernel(
    hidden_ptr,
    b_ptr,
    slots_ptr,
    out_ptr,
    rows,
    second,  # where the columns of the second layer begin
    third,
    outputs,
    out_row,
    LAYERS: tl.constexpr,
    RANK: tl.constexpr,
    DOT: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    slot, layer = tl.program_id(2) // LAYERS, tl.program_id(2) % LAYERS
    begin = tl.where(layer == 0, 0, tl.where(layer == 1, second, third))
    end = tl.where(layer == 0, second, tl.where(layer == 1, third, outputs))
    column = begin + tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mine = tl.load(slots_ptr + row, row < rows, other=-1) == slot
    if (tl.max(mine.to(tl.int32), 0) > 0) & (begin + tl.program_id(1) * BLOCK_N < end):
        rank = tl.arange(0, RANK)
        hidden = tl.zeros((BLOCK_M, RANK), tl.float32)
        for split in range(SPLITS):
            place = ((split * rows + row)[:, None] * LAYERS + layer) * RANK + rank[None, :]
            hidden += tl.load(hidden_ptr + place, mine[:, None], other=0.0)
        weight = b_ptr + (slot.to(tl.int64) * outputs + column)[None, :] * RANK + rank[:, None]
        b = tl.load(weight, (column < end)[None, :], other=0.0).to(DOT)
        added = tl.dot(hidden.to(DOT), b, input_precision="ieee")
        place = out_ptr + row.to(tl.int64)[:, None] * out_row + column[None, :]
        mask = mine[:, None] & (column < end)[None, :]
        tl.store(place, tl.load(place, mask, other=0.0).to(tl.float32) + added, mask)


def default_lora(rows: int, inputs: int, outputs: int, rank: int) -> Configuration:
    """Blocks of 16 rows while adapters are mixed, larger ones for prompts; a sum in shares of 512."""
    block_m = 16 if rows <= 256 else 64
    splits = 1 if rows > 256 else min(8, triton.next_power_of_2(triton.cdiv(inputs, 512)))
    wide = rank > 64
    return {
        "BLOCK_M": block_m,
        "BLOCK_N": 32 if wide else 64,
        "BLOCK_K": 32 if wide else 128 if block_m == 16 else 64,
        "SPLITS": splits,
        "num_warps": 4,
        "num_stages": 2,
    }


def lora_grouped(
    x: Tensor, a: Tensor, b: Tensor, slots: Tensor, out: Tensor, starts: Sequence[int] = (0,)
) -> Tensor:
    """Add b[slot] a[slot] x of each row to `out`, layer by layer, and return it.

    The arguments are those of `byollm.kernels.lora_grouped`, for `MOST_LAYERS` at most; the rank is a power
    of two and 16 or more. Rows of `x` and `out` may lie apart, `a` and `b` are contiguous.
    """
    rows, inputs = x.shape
    count, layers, rank = a.shape[:3]
    outputs = out.shape[1]
    second, third = (*starts, outputs, outputs)[1:MOST_LAYERS]
    widest = max(second, third - second, outputs - third)
    config = configuration("lora", default_lora, rows, inputs, outputs, rank)
    launch = {name: config[name] for name in ("BLOCK_M", "SPLITS", "num_warps", "num_stages")}
    shape = {"LAYERS": layers, "RANK": rank, "DOT": DOT[x.dtype]}
    hidden = torch.empty(config["SPLITS"], rows, layers, rank, dtype=torch.float32, device=x.device)
    blocks = triton.cdiv(rows, config["BLOCK_M"])
    _shrink_kernel[(blocks, config["SPLITS"] * layers, count)](
        x, a, slots, hidden, rows, inputs, x.stride(0), BLOCK_K=config["BLOCK_K"], **shape, **launch
    )
    _expand_kernel[(blocks, triton.cdiv(widest, config["BLOCK_N"]), count * layers)](
        hidden,
        b,
        slots,
        out,
        rows,
        second,
        third,
        outputs,
        out.stride(0),
        BLOCK_N=config["BLOCK_N"],
        **shape,
        **launch,
    )
    return out
