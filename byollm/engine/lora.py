"""Adapters of the rows of one step, added to what a decoder's linear layers give; in torch, one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from byollm.engine.adapters import BASE
from byollm.modeling import Adapter, Decoder


class SlottedAdapters:
    """The slots of a decoder. It is as it was until the first adapter comes.

    Sums are float32, whatever the decoder computes in, as PEFT's are.

    Args:
        decoder: whose layers are changed.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._device = decoder.device
        self._weights: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}  # by layer and slot
        self._rows: dict[int, Tensor] = {}  # of the step under way, by slot

    def put(self, slot: int, adapter: Adapter | None) -> None:
        """Put an adapter into a slot, in the place of what stands there; None empties it."""
        for by_slot in self._weights.values():
            by_slot.pop(slot, None)
        for name, (a, b) in ({} if adapter is None else adapter.weights).items():
            if name not in self._weights:
                self._weights[name] = {}
                self._decoder.get_submodule(name).register_forward_hook(partial(self._add, name))
            self._weights[name][slot] = a.to(self._device), b.to(self._device)

    @contextmanager
    def chosen(self, slots: Sequence[int]) -> Iterator[None]:
        """Compute each row of a forward pass with the adapter in its slot."""
        places: dict[int, list[int]] = {}
        for row, slot in enumerate(slots):
            if slot != BASE:
                places.setdefault(slot, []).append(row)
        self._rows = {slot: torch.tensor(rows, device=self._device) for slot, rows in places.items()}
        try:
            yield
        finally:
            self._rows = {}

    def _add(self, name: str, module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        """Add what the adapters give for their rows to the output (rows, out) of a linear layer."""
        (x,) = inputs
        for slot, rows in self._rows.items():
            if (pair := self._weights[name].get(slot)) is not None:
                a, b = pair
                out.index_add_(0, rows, linear(linear(x[rows].float(), a), b).to(out.dtype))
