"""Unpack a weight into numbers, for products of so many rows that a dense matrix product pays for it."""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.packed import NF4_VALUES, PackedWeight

BLOCK = 1024


def dequantise(packed: PackedWeight, dtype: torch.dtype) -> Tensor:
    """Return the weight (out, in): code times scale in float32, rounded once to `dtype`."""
    codes, scales, scheme, shape = packed
    out = torch.empty(shape, dtype=dtype, device=codes.device)
    # Groups of nf4 go on from row to row: to them a weight is one long row.
    rows, columns = (1, out.numel()) if scheme.kind == "nf4" else shape
    blocks = triton.cdiv(columns, BLOCK)
    _unpack[(rows * blocks,)](
        codes,
        scales,
        nf4_table(codes.device),
        out,
        columns,
        blocks,
        triton.cdiv(columns, scheme.group),
        KIND=scheme.kind,
        GROUP=scheme.group,
        BLOCK=BLOCK,
    )
    return out


@lru_cache
def nf4_table(device: torch.device) -> Tensor:
    """Return the values of NF4's codes, (16,) float32."""
    return torch.tensor(NF4_VALUES, device=device)


@triton.jit
def _unpack(
    codes,
    scales,
    table,
    out,
    columns,
    blocks,
    groups,
    KIND: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) // blocks).to(tl.int64)
    at = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = at < columns
    if KIND == "int8":
        values = tl.load(codes + row * columns + at, mask=inside, other=0).to(tl.float32)
    else:
        byte = tl.load(codes + row * ((columns + 1) // 2) + at // 2, mask=inside, other=0).to(tl.int32)
        if KIND == "int4":
            values = ((byte >> (at % 2 * 4)) & 15).to(tl.float32) - 8
        else:  # the first of a pair is in the high half
            values = tl.load(table + ((byte >> (4 - at % 2 * 4)) & 15))
    scale = tl.load(scales + row * groups + at // GROUP, mask=inside, other=0).to(tl.float32)
    tl.store(out + row * columns + at, (values * scale).to(out.dtype.element_ty), mask=inside)
