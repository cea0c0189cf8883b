"""Linear layer over a packed weight, whose codes are unpacked in registers.

With few rows the reading of the weight is all that counts. There are then too few tiles of the result for a
whole GPU, so several programs share one, each with a part of the sum (split-K); a second kernel adds the
parts up, in one order, so that a result never depends on which program was first. With many rows the
products count: then the weight is unpacked once and left to the dense product of torch.
"""

from math import gcd

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.dequantise import dequantise, nf4_table
from byollm.kernels.gpu.tuning import Configuration, configuration
from byollm.kernels.packed import PackedWeight

DENSE_ROWS = 128  # above, the dense product is faster
PROGRAMS = 160  # two for each of the 80 processors of an A10G
DOT = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}


def packed_linear(x: Tensor, packed: PackedWeight, bias: Tensor | None = None) -> Tensor:
    """Map `x` (..., in) to (..., out), in the type of `x`; sums are float32."""
    outputs, inputs = packed.shape
    group = packed.scheme.group
    flat = x.reshape(-1, inputs)
    config = configuration(f"packed_linear_{packed.scheme.kind}", default, len(flat), outputs, inputs, group)
    if "DENSE" in config or (packed.scheme.kind == "nf4" and inputs % group):  # groups that end amid a row
        return F.linear(x, dequantise(packed, x.dtype), None if bias is None else bias.to(x.dtype))
    out = torch.empty(len(flat), outputs, dtype=x.dtype, device=x.device)
    if len(flat):
        _multiply(flat.contiguous(), packed, bias, out, **config)
    return out.view(*x.shape[:-1], outputs)


def default(rows: int, outputs: int, inputs: int, group: int) -> Configuration:
    """Return the tiles for a product, and how many programs share one."""
    if rows > DENSE_ROWS:
        return {"DENSE": 1}
    # A tile lies within a group: its products share a scale, which is then applied to their sum.
    config = {"BLOCK_M": max(16, min(rows, 64)), "BLOCK_N": 64, "BLOCK_K": gcd(group, 128)}
    tiles = triton.cdiv(rows, config["BLOCK_M"]) * triton.cdiv(outputs, config["BLOCK_N"])
    most = triton.cdiv(inputs, config["BLOCK_K"])
    split = min(triton.next_power_of_2(triton.cdiv(PROGRAMS, tiles)), most, 16)
    return config | {"SPLIT": split, "num_warps": 4, "num_stages": 4 if rows <= 16 else 3}


def _multiply(
    x: Tensor,
    packed: PackedWeight,
    bias: Tensor | None,
    out: Tensor,
    *,
    BLOCK_M: int,
    BLOCK_N: int,
    BLOCK_K: int,
    SPLIT: int,
    num_warps: int,
    num_stages: int,
) -> None:
    (rows, outputs), inputs = out.shape, x.shape[1]
    parts = out if SPLIT == 1 else torch.empty(SPLIT, rows, outputs, device=x.device)
    grid = triton.cdiv(outputs, BLOCK_N), triton.cdiv(rows, BLOCK_M), SPLIT
    _tile[grid](
        x,
        packed.codes,
        packed.scales,
        nf4_table(x.device),
        bias,
        parts,
        rows,
        outputs,
        inputs,
        inputs if packed.scheme.kind == "int8" else triton.cdiv(inputs, 2),
        triton.cdiv(inputs, packed.scheme.group),
        KIND=packed.scheme.kind,
        GROUP=packed.scheme.group,
        DOT=DOT[x.dtype],
        SPLIT=SPLIT,
        BLOCK_M=BLOCK_M,
        BLOCK_N=BLOCK_N,
        BLOCK_K=BLOCK_K,
        num_warps=num_warps,
        num_stages=num_stages,
    )
    if SPLIT > 1:
        block = 256
        _add_up[rows, triton.cdiv(outputs, block)](parts, bias, out, rows, outputs, SPLIT=SPLIT, BLOCK=block)


@triton.jit
def _centred(code, kind: tl.constexpr):
    """Return a code of four bits less 8.

    In the last bits of a power of two it needs no conversion from integers over float32. Compiled for an
    A10G, a tile has a third fewer instructions for the integer units, which unpacking keeps busiest.
    """
    if kind == tl.bfloat16:
        number = (code | 0x4300).to(tl.int16).to(tl.bfloat16, bitcast=True) - 136.0  # 128 + code
    elif kind == tl.float16:
        number = (code | 0x6400).to(tl.int16).to(tl.float16, bitcast=True) - 1032.0  # 1024 + code
    else:
        number = (code - 8).to(kind)
    return number


@triton.jit(do_not_specialize=["rows"])
def _tile(
    x,
    codes,
    scales,
    table,
    bias,
    out,
    rows,
    outputs,
    inputs,
    width,  # of a row of codes
    groups,
    KIND: tl.constexpr,
    GROUP: tl.constexpr,
    DOT: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    weight = n.to(tl.int64)[:, None]  # a weight may have more than 2^31 codes
    row = m.to(tl.int64)[:, None] * inputs
    steps = tl.cdiv(inputs, BLOCK_K)
    share = tl.cdiv(steps, SPLIT)
    first = tl.program_id(2) * share
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(first, tl.minimum(first + share, steps)):
        start = step * BLOCK_K
        scale = tl.load(scales + n.to(tl.int64) * groups + start // GROUP, mask=n < outputs, other=0)
        scale = scale.to(tl.float32)
        k = start + tl.arange(0, BLOCK_K)[None, :]
        given = tl.load(x + row + k, mask=(m < rows)[:, None] & (k < inputs), other=0).to(DOT)
        if KIND == "int8":
            code = tl.load(codes + weight * width + k, mask=(n < outputs)[:, None] & (k < inputs), other=0)
            found = code.to(DOT)
        else:
            pair = start // 2 + tl.arange(0, BLOCK_K // 2)[None, :]
            byte = tl.load(
                codes + weight * width + pair, mask=(n < outputs)[:, None] & (pair < width), other=0
            )
            low, high = byte.to(tl.int32) & 15, byte.to(tl.int32) >> 4
            if KIND == "int4":
                found = tl.interleave(_centred(low, DOT), _centred(high, DOT))
            else:  # the first of a pair is in the high half
                values = tl.interleave(tl.load(table + high), tl.load(table + low))
                found = (values * scale[:, None]).to(DOT)
        if KIND == "nf4":
            total = tl.dot(given, tl.trans(found), total, input_precision="ieee")
        else:
            total += tl.dot(given, tl.trans(found), input_precision="ieee") * scale[None, :]
    if SPLIT == 1 and bias is not None:
        total += tl.load(bias + n, mask=n < outputs, other=0).to(tl.float32)[None, :]
    place = (tl.program_id(2).to(tl.int64) * rows + m[:, None]) * outputs + n[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=(m < rows)[:, None] & (n < outputs)[None, :])


@triton.jit(do_not_specialize=["rows"])
def _add_up(parts, bias, out, rows, outputs, SPLIT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for part in range(SPLIT):
        total += tl.load(parts + (part * rows + row) * outputs + n, mask=n < outputs, other=0)
    if bias is not None:
        total += tl.load(bias + n, mask=n < outputs, other=0).to(tl.float32)
    tl.store(out + row * outputs + n, total.to(out.dtype.element_ty), mask=n < outputs)
