"""What LoRA adapters add to a linear layer, several of them in one batch (Hu et al., 2021)."""

from torch import Tensor


def lora_grouped(x: Tensor, a: Tensor, b: Tensor, slots: Tensor, out: Tensor) -> Tensor:
    """Add b[slot] a[slot] x of each row to `out`, and return it.

    Args:
        x: (rows, in)
        a: (slots, rank, in)
        b: (slots, outs, rank), the scaling in it
        slots: (rows,) the adapter of each row; below 0: none
        out: (rows, outs), changed in place
    """
    for row, slot in enumerate(slots.tolist()):
        if slot >= 0:
            out[row] += (b[slot].float() @ (a[slot].float() @ x[row].float())).to(out.dtype)
    return out
