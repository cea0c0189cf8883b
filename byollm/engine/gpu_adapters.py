"""LoRA adapters in slots on the device: the matrices of all slots stacked, for one kernel over mixed rows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from byollm.kernels.gpu.lora import lora_grouped
from byollm.modeling import Adapter

SMALLEST_RANK = 16  # the least that a matrix product on the device takes


@dataclass(frozen=True, eq=False)
class Group:
    """Linear layers that read the same input, side by side.

    Attributes:
        parts: by name, the columns of the outputs that are theirs, one after the other.
        inputs: how many numbers they read.
        outputs: how many numbers they give, all together.
    """

    parts: Mapping[str, slice]
    inputs: int
    outputs: int

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the columns of each layer begin."""
        return tuple(part.start for part in self.parts.values())


class _Stack(NamedTuple):
    """What all slots add to a group; zeros where a slot adds nothing."""

    a: Tensor  # (slots, layers, rank, in)
    b: Tensor  # (slots, outs, rank)


class GpuAdapters:
    """The slots. They take memory only for the groups that some adapter has changed so far, and for its rank.

    Args:
        groups: all that an adapter may change.
        slots: how many.
        dtype: of the matrices.
        device: where they are.
    """

    def __init__(self, groups: Iterable[Group], slots: int, dtype: torch.dtype, device: torch.device) -> None:
        self._groups = tuple(groups)
        self._slots, self._dtype, self._device = slots, dtype, device
        self._stacks: dict[Group, _Stack] = {}

    def put(self, slot: int, adapter: Adapter | None) -> bool:
        """Put an adapter into a slot, in the place of what stands there; None empties it.

        Returns:
            Whether matrices came to be elsewhere in memory, so that what was captured before is void.
        """
        for _, b in self._stacks.values():
            b[slot] = 0
        moved = False
        weights = {} if adapter is None else adapter.weights
        for group in self._groups:
            changed = {name: weights[name] for name in group.parts if name in weights}
            if not changed:
                continue
            rank, stack = max(len(a) for a, _ in changed.values()), self._stacks.get(group)
            if stack is None or stack.a.shape[2] < rank:
                self._stacks[group] = stack = self._grown(group, stack, rank)
                moved = True
            for layer, (name, columns) in enumerate(group.parts.items()):
                if name in changed:
                    a, b = changed[name]
                    stack.a[slot, layer, : len(a)] = a.to(self._device, self._dtype)
                    stack.b[slot, columns, : len(a)] = b.to(self._device, self._dtype)
        return moved

    def add(self, group: Group, x: Tensor, out: Tensor, slots: Tensor) -> None:
        """Add to the outputs of a group what the adapters of the rows give.

        Args:
            group: the layers.
            x: (rows, in)
            out: (rows, outs), changed in place.
            slots: (rows,) slot of each row; below 0: none.
        """
        if (stack := self._stacks.get(group)) is not None:
            lora_grouped(x, stack.a, stack.b, slots, out, group.starts)

    def compile(self, rows: int, most_rank: int) -> None:
        """Compile what so many rows of adapters up to a rank need, with rows that have none.

        Compiling takes a second each, and would have to be waited for amid the requests.
        """
        slots = torch.full((rows,), -1, device=self._device)
        for group in {(group.inputs, group.starts, group.outputs): group for group in self._groups}.values():
            x, out = (self._zeros(rows, columns) for columns in (group.inputs, group.outputs))
            rank = SMALLEST_RANK
            while rank < 2 * most_rank:
                a = self._zeros(1, len(group.parts), rank, group.inputs)
                lora_grouped(x, a, self._zeros(1, group.outputs, rank), slots, out, group.starts)
                rank *= 2

    def _grown(self, group: Group, stack: _Stack | None, rank: int) -> _Stack:
        rank = max(SMALLEST_RANK, 1 << (rank - 1).bit_length())
        a = self._zeros(self._slots, len(group.parts), rank, group.inputs)
        b = self._zeros(self._slots, group.outputs, rank)
        if stack is not None:
            a[:, :, : stack.a.shape[2]] = stack.a
            b[:, :, : stack.b.shape[2]] = stack.b
        return _Stack(a, b)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self._dtype, device=self._device)
