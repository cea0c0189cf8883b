"""How whoever waits is told how far the work is."""

from collections.abc import Callable
from contextlib import AbstractContextManager

MIB = 2**20

Advance = Callable[[int, int], None]
Progress = Callable[[str], AbstractContextManager[Advance]]
"""Shows work of a name; the `Advance` is told how much is done, and of how much."""


def in_mib(advance: Advance, total: int) -> Callable[[int], None]:
    """Return what counts bytes as they are done, of `total`, and tells in MiB."""
    done = 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        advance(-(-done // MIB), -(-total // MIB))

    return tell
