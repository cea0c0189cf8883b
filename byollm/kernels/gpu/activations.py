"""The two activations of the MLP: SwiGLU and GELU.

    swiglu(g, u) = g * sigmoid(g) * u
    gelu(x) = 0.5 * x * (1 + tanh(z)) = x * sigmoid(2 z),  z = sqrt(2 / pi) * (x + 0.044715 * x^3)

Sources: Shazeer, 2020; Hendrycks and Gimpel, 2016. Defined by `byollm.kernels.swiglu` and `gelu`.

Memory bounds them: 3 (SwiGLU) or 2 (GELU) * itemsize bytes a number. Rows may lie apart, so the halves of one
fused projection are taken where they are: `swiglu(*both.chunk(2, -1))`. A row of 6912 in bfloat16 takes an
A10G 69 ns.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from byollm.kernels.gpu.tuning import Configuration, configuration


@triton.jit
def _activation_kernel(
    x_ptr,  # gate, or what GELU is taken of
    up_ptr,
    out_ptr,
    x_row,
    up_row,
    SIZE: tl.constexpr,
    GATED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < SIZE
    x = tl.load(x_ptr + row * x_row + column, mask, other=0.0).to(tl.float32)
    if GATED:
        y = x / (1 + tl.exp(-x)) * tl.load(up_ptr + row * up_row + column, mask, other=0.0).to(tl.float32)
    else:
        # 2 * sqrt(2 / pi) = 1.5957691216057308
        y = x / (1 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    tl.store(out_ptr + row * SIZE + column, y, mask)


def default_activation(rows: int, size: int) -> Configuration:
    """Eight numbers a thread, which is one load of 16 bytes in a narrow type; fewer where rows are few."""
    block = min(256 if rows < 16 else 1024, triton.next_power_of_2(size))
    return {"BLOCK": block, "num_warps": max(1, block // 256)}


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(`gate`) * `up`; both have the same shape."""
    return _activate(gate, up)


def gelu(x: Tensor) -> Tensor:
    """Return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))."""
    return _activate(x, None)


def _activate(x: Tensor, up: Tensor | None) -> Tensor:
    size = x.shape[-1]
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    given, gated = x.reshape(-1, size), (x if up is None else up).reshape(-1, size)
    rows = len(given)
    config = configuration("activation", default_activation, rows, size)
    _activation_kernel[(rows, triton.cdiv(size, config["BLOCK"]))](
        given,
        gated,
        out,
        given.stride(0),
        gated.stride(0),
        SIZE=size,
        GATED=up is not None,
        **config,
    )
    return out
