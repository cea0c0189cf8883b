"""Progress of an evaluation: a bar on a terminal, plain lines elsewhere, on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, int], None]
"""Called with how much is done, and of how much."""

LINE_SECONDS = 15.0  # between plain lines


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """Show work of `what`; the Advance is told how much is done, and of how much."""
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        shown = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal shown
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and time.monotonic() - shown >= LINE_SECONDS:
                shown = time.monotonic()
                console.print(f"{what}: {done:,} of {total:,}", markup=False)

        yield advance
