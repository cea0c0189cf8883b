"""What the training loop asks of data: rows of tokens with targets, as a pure function of the step."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Rows(Protocol):
    """A split: `byollm.data`'s tokens or conversations."""

    vocab_size: int

    def windows_per_epoch(self, length: int) -> int:
        """Return how many rows of `length` tokens an epoch has."""

    def batch(self, step: int, batch_size: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets (batch_size, length); targets of -100 do not count."""

    def windows(self, length: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets (length,) over the whole split."""
