"""What LoRA adapters add to linear layers that read the same input, in one batch (Hu et al., 2021)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor


def lora_grouped(
    x: Tensor, a: Tensor, b: Tensor, slots: Tensor, out: Tensor, starts: Sequence[int] = (0,)
) -> Tensor:
    """Add b[slot] a[slot] x of each row to `out`, layer by layer, and return it.

    Args:
        x: (rows, in)
        a: (slots, layers, rank, in)
        b: (slots, outs, rank), the scaling in it
        slots: (rows,) the adapter of each row; below 0: none
        out: (rows, outs), changed in place
        starts: where the columns of each layer begin in `out`; the first at 0
    """
    bounds = list(pairwise((*starts, out.shape[1])))
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            for matrix, (begin, end) in zip(a[slot], bounds, strict=True):
                added = b[slot, begin:end].float() @ (matrix.float() @ x[row].float())
                out[row, begin:end] += added.to(out.dtype)
    return out
