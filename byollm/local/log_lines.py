"""What a container has written, line by line.

`container_init` begins every line with the time it came at; a file that is full becomes `<name>.1`.
"""

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

MOST_BYTES = 2**17
"""Read at once; more than one line may have, less than one call of PutLogEvents takes."""
_TIME = len("2026-01-31T12:00:00.000Z")


class Line(NamedTuple):
    """One line: milliseconds since 1970, and what it says."""

    time: int
    text: str


class Place(NamedTuple):
    """How far a log was read: `offset` bytes of the file that is `inode`, whatever it is called by now."""

    inode: int = 0
    offset: int = 0

    @classmethod
    def end_of(cls, path: Path) -> Self:
        """Return the place behind everything that is there now."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return cls()
        return cls(status.st_ino, status.st_size)


class LogLines:
    """The lines of one log. Those that were thrown away, because two files were filled unread, are missing.

    Args:
        path: of its file, which need not exist yet.
        place: where to begin.
    """

    def __init__(self, path: Path, place: Place) -> None:
        self.path, self.place = path, place

    def read(self) -> list[Line]:
        """Return the lines that follow, a few thousand at most; none if there are none yet."""
        before = self.path.with_name(f"{self.path.name}.1")
        try:
            with self.path.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                if inode != self.place.inode and (lines := self._read_from(before)):
                    return lines
                return self._read(file.fileno(), inode)
        except FileNotFoundError:  # it has just been filled
            return self._read_from(before)

    def _read_from(self, path: Path) -> list[Line]:
        try:
            with path.open("rb") as file:
                return self._read(file.fileno(), os.fstat(file.fileno()).st_ino)
        except FileNotFoundError:
            return []

    def _read(self, file: int, inode: int) -> list[Line]:
        offset = self.place.offset if inode == self.place.inode else 0
        data = os.pread(file, MOST_BYTES, offset)
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            return []
        self.place = Place(inode, offset + len(data))
        return [line for raw in data.split(b"\n")[:-1] if (line := _parsed(raw))]


def _parsed(raw: bytes) -> Line | None:
    """Take a line apart; None for what a kill left of one."""
    time, space, text = raw[:_TIME], raw[_TIME : _TIME + 1], raw[_TIME + 1 :]
    try:
        came = datetime.fromisoformat(time.decode())
    except ValueError:
        return None
    return Line(round(came.timestamp() * 1000), text.decode(errors="replace")) if space else None
