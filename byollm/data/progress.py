"""Progress of long work: a bar with an estimate on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

LINE_EVERY = 10.0  # seconds between plain lines


class Reporter(Protocol):
    """What long work tells while it runs."""

    def begin(self, what: str, total: int) -> None:
        """Start a phase that reads `total` bytes of input."""

    def advance(self, count: int) -> None:
        """Count bytes of input as read."""

    def note(self, text: str) -> None:
        """Say something that stays on the screen."""


Reporting = Callable[[], AbstractContextManager[Reporter]]


class _Bar:
    def __init__(self, progress: Progress) -> None:
        self._progress, self._task = progress, TaskID(0)

    def begin(self, what: str, total: int) -> None:
        self._task = self._progress.add_task(what, total=total)

    def advance(self, count: int) -> None:
        self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self.begin("", 1)

    def begin(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, max(total, 1), 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last < LINE_EVERY:
            return
        self._last = now
        rate = self._done / (now - self._start)
        left = (self._total - self._done) / rate if rate else float("inf")
        self.note(
            f"{self._what}: {self._done / self._total:.0%} of {self._total / 1e6:.1f} MB, "
            f"{rate / 1e6:.2f} MB/s, about {left:.0f} s left"
        )

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def reporting() -> Iterator[Reporter]:
    """Report work on standard error."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress)
