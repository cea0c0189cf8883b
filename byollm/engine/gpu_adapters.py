"""LoRA adapters in slots on the device: the matrices of all slots stacked, for one kernel over mixed rows."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from byollm.kernels.gpu.lora import lora_grouped
from byollm.modeling import Adapter

SMALLEST_RANK = 16  # the least that a matrix product on the device takes


class _Stack(NamedTuple):
    """What all slots add to one linear layer; zeros where a slot adds nothing."""

    a: Tensor  # (slots, rank, in)
    b: Tensor  # (slots, out, rank)


class GpuAdapters:
    """The slots. They take memory only for the layers that some adapter has changed so far, and for its rank.

    Args:
        slots: how many.
        dtype: of the matrices.
        device: where they are.
    """

    def __init__(self, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        self._slots, self._dtype, self._device = slots, dtype, device
        self._stacks: dict[str, _Stack] = {}

    def put(self, slot: int, adapter: Adapter | None) -> bool:
        """Put an adapter into a slot, in the place of what stands there; None empties it.

        Returns:
            Whether matrices came to be elsewhere in memory, so that what was captured before is void.
        """
        for _, b in self._stacks.values():
            b[slot] = 0
        moved = False
        for name, (a, b) in ({} if adapter is None else adapter.weights).items():
            rank, stack = len(a), self._stacks.get(name)
            if stack is None or stack.a.shape[1] < rank:
                self._stacks[name] = stack = self._grown(stack, rank, a.shape[1], len(b))
                moved = True
            stack.a[slot, :rank] = a.to(self._device, self._dtype)
            stack.b[slot, :, :rank] = b.to(self._device, self._dtype)
        return moved

    def add(self, parts: Iterable[tuple[str, slice]], x: Tensor, out: Tensor, slots: Tensor) -> None:
        """Add to the outputs of linear layers what the adapters of the rows give.

        Args:
            parts: names of the layers, and the columns of `out` that are theirs.
            x: (rows, in)
            out: (rows, outs), changed in place.
            slots: (rows,) slot of each row; below 0: none.
        """
        for name, columns in parts:
            if (stack := self._stacks.get(name)) is not None:
                lora_grouped(x, stack.a, stack.b, slots, out[:, columns])

    def _grown(self, stack: _Stack | None, rank: int, inputs: int, outputs: int) -> _Stack:
        rank = max(SMALLEST_RANK, 1 << (rank - 1).bit_length())
        a = torch.zeros(self._slots, rank, inputs, dtype=self._dtype, device=self._device)
        b = torch.zeros(self._slots, outputs, rank, dtype=self._dtype, device=self._device)
        if stack is not None:
            a[:, : stack.a.shape[1]] = stack.a
            b[:, :, : stack.b.shape[2]] = stack.b
        return _Stack(a, b)
