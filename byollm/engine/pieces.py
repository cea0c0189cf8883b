"""What a forward pass computes."""

from collections.abc import Sequence
from typing import NamedTuple


class Piece(NamedTuple):
    """Consecutive tokens of one text.

    Attributes:
        tokens: at least one.
        start: position of the first in the text.
        blocks: cache blocks of the whole text so far, in order.
        slot: of the adapter that it is read with; -1: none.
    """

    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    slot: int = -1

    @property
    def end(self) -> int:
        """Position after the last token."""
        return self.start + len(self.tokens)
