"""Live progress of a run: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

LINE_SECONDS = 15.0  # between plain lines
WINDOW = 30  # steps that the shown speed and loss are a mean of


class Reporter:
    """Shows a run to whoever started it, on standard error."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
        self._progress: Progress | None = None
        self._recent = deque[tuple[float, float, float]](maxlen=WINDOW)  # (loss, tokens a second, mfu)
        self._total, self._shown = 0, -LINE_SECONDS

    def start(self, step: int, total: int) -> None:
        """Begin at `step` of `total`."""
        self._total = total
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[status]}"),
                console=self._console,
                refresh_per_second=4,
            )
            self._task = self._progress.add_task("train", total=total, completed=step, status="")
            self._progress.start()

    def step(self, record: dict[str, Any]) -> None:
        """Show a step's record, as it is logged."""
        self._recent.append((record["loss"], record["tokens_per_second"], record["mfu"]))
        step_tokens = record["tokens"] / record["step"]
        loss = sum(loss for loss, _, _ in self._recent) / len(self._recent)
        speed = len(self._recent) / sum(1 / speed for _, speed, _ in self._recent)
        mfu = len(self._recent) / sum(1 / max(mfu, 1e-9) for _, _, mfu in self._recent)
        left = (self._total - record["step"]) * step_tokens / speed
        status = f"loss {loss:.4f}  {speed:,.0f} tokens/s  MFU {mfu:.0%}  {_duration(left)} left"
        if self._progress is not None:
            self._progress.update(self._task, completed=record["step"], status=status)
        elif time.monotonic() - self._shown >= LINE_SECONDS or record["step"] == self._total:
            self._shown = time.monotonic()
            self._console.print(f"step {record['step']}/{self._total}  {status}", markup=False)

    def validation(self, record: dict[str, Any]) -> None:
        """Show a validation's record, as it is logged."""
        found = record["validation"]
        self._console.print(
            f"step {record['step']}/{self._total}  {record['tokens']:,} tokens  "
            f"{_duration(record['seconds'])}  validation: loss {found['loss']:.4f}  "
            f"accuracy {found['accuracy']:.2%}  {found['bits_per_byte']:.4f} bits/byte",
            markup=False,
        )

    def note(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(text, markup=False)

    def stop(self) -> None:
        """End the display."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {seconds:02}s"
