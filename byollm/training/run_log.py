"""`log.jsonl`: one line a step and one a validation, none twice and none missing after a resume."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from byollm.training.errors import ResumeError, TrainingError


class RunLog:
    """The log of a run, open for appending.

    A checkpoint records `sync()`, the length of the log at its step. Resuming cuts the log to that length;
    the steps after it are logged again as they are taken again.

    Raises:
        ResumeError: the log is shorter than the checkpoint says.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        found = self._file.tell()
        if found < length:
            self._file.close()
            raise ResumeError(
                f"{path} has {found:,} bytes, but had {length:,} at the checkpoint. Restore the file, "
                f"or remove {path.parent} to start over."
            )
        self._file.truncate(length)
        self._file.seek(length)

    def append(self, record: dict[str, Any]) -> None:
        """Write one line.

        Raises:
            TrainingError: the disk is full or refuses.
        """
        with self._stop_if_refused():
            self._file.write((json.dumps(record) + "\n").encode())
            self._file.flush()

    def sync(self) -> int:
        """Put every line on the disk and return the length in bytes.

        Raises:
            TrainingError: the disk is full or refuses.
        """
        with self._stop_if_refused():
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    @contextmanager
    def _stop_if_refused(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"{self._path} cannot be written ({error.strerror}). Training stops, so that no part of its "
                "curve is lost. Free some space and run the same command again: it continues."
            ) from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written was told by `append`
            self._file.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log, in order."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)
