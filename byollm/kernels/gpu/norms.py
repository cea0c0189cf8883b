"""RMS and layer normalisation, with the addition to the residual stream before them where it is wanted.

    total = residual + x                     in the `add_` forms, rounded to the dtype; else total = x
    centred = total - mean(total)            for layer normalisation; else centred = total
    y = centred / sqrt(mean(centred^2) + eps) * weight + bias

Sources: Zhang and Sennrich, 2019; Ba et al., 2016. Defined by `byollm.kernels.rms_norm` and `layer_norm`.

Memory bounds it: a row is read once and written once, 2 * size * itemsize bytes (twice that with the
addition, which alone would read and write as much again). An A10G moves a row of 2560 in bfloat16 in 17 ns.
A program normalises one wide row or several narrow ones, held in registers in float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.tuning import Configuration, configuration


@triton.jit(do_not_specialize=["rows"])
def _norm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    total_ptr,
    rows,
    x_stride,
    residual_stride,
    eps,
    SIZE: tl.constexpr,
    HEADS: tl.constexpr,
    CENTRED: tl.constexpr,
    ADD: tl.constexpr,
    BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]  # (ROWS, 1)
    column = tl.arange(0, BLOCK)[None, :]  # (1, BLOCK)
    mask = (row < rows) & (column < SIZE)
    x = tl.load(x_ptr + row * x_stride + column, mask, other=0.0).to(tl.float32)
    if ADD:
        x += tl.load(residual_ptr + row * residual_stride + column, mask, other=0.0).to(tl.float32)
        x = x.to(total_ptr.dtype.element_ty)  # what the stream holds from here on is what is normalised
        tl.store(total_ptr + row * SIZE + column, x, mask)
        x = x.to(tl.float32)
    if CENTRED:
        x = tl.where(mask, x - tl.sum(x, 1)[:, None] / SIZE, 0.0)
    scale = tl.rsqrt(tl.sum(x * x, 1)[:, None] / SIZE + eps)
    place = column if HEADS == 1 else row % HEADS * SIZE + column
    y = x * scale * tl.load(weight_ptr + place, column < SIZE, other=0.0).to(tl.float32)
    if BIAS:
        y += tl.load(bias_ptr + place, column < SIZE, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * SIZE + column, y, mask)


def default_norm(rows: int, size: int) -> Configuration:
    """Some 1024 numbers a program, and 16 of them a thread: two loads of 16 bytes in a narrow type."""
    block = triton.next_power_of_2(size)
    together = max(1, min(1024 // block, rows))
    return {"ROWS": together, "num_warps": min(max(block * together // 512, 1), 16)}


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Normalise the last axis of `x` (..., size) and scale it by `weight` (size,)."""
    return _normalise(x, None, weight, None, eps, centred=False)[0]


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the norm of `residual` + `x`, and that sum; both (..., size)."""
    return _normalise(x, residual, weight, None, eps, centred=False)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise the last axis of `x` (..., size); `weight` and `bias` are (size,), or (heads, size)."""
    return _normalise(x, None, weight, bias, eps, centred=True)[0]


def add_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the norm of `residual` + `x`, and that sum; both (..., size)."""
    return _normalise(x, residual, weight, bias, eps, centred=True)


def _normalise(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor | None, eps: float, centred: bool
) -> tuple[Tensor, Tensor]:
    size = x.shape[-1]
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = x if residual is None else torch.empty_like(out)
    given, added = x.reshape(-1, size), (x if residual is None else residual).reshape(-1, size)
    rows = len(given)
    config = configuration("norm", default_norm, rows, size)
    _norm_kernel[(triton.cdiv(rows, config["ROWS"]),)](
        given,
        added,
        weight,
        weight if bias is None else bias,
        out,
        total,
        rows,
        given.stride(0),
        added.stride(0),
        eps,
        SIZE=size,
        HEADS=1 if weight.dim() == 1 else len(weight),
        CENTRED=centred,
        ADD=residual is not None,
        BIAS=bias is not None,
        BLOCK=triton.next_power_of_2(size),
        **config,
    )
    return out, total
