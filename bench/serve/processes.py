"""A process and all that it started: their processor time, their memory, putting them to sleep."""

import contextlib
import os
import signal
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
GONE = (FileNotFoundError, ProcessLookupError)


def tree(root: int) -> list[int]:
    """Return the process and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(*GONE):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """Processor time of a tree, that of its processes that have ended included."""
    ticks = 0
    for pid in tree(root):
        with contextlib.suppress(*GONE):
            ticks += sum(map(int, _stat(pid)[11:15]))  # user and system, its own and of those it waited for
    return ticks / TICKS


def peak_bytes(root: int) -> int:
    """The most memory that a tree has held; what its processes map from files (libraries) counts once."""
    peaks, files = [], []
    for pid in tree(root):
        with contextlib.suppress(*GONE):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines)
            if "VmHWM" in fields:  # a process that has ended and was not waited for has none
                peaks.append(int(fields["VmHWM"].split()[0]))
                files.append(int(fields["RssFile"].split()[0]))
    return 1024 * (sum(peaks) - sum(files) + max(files, default=0))


def freeze(root: int) -> None:
    """Stop every process of a tree until `thaw`."""
    _signal(root, signal.SIGSTOP)


def thaw(root: int) -> None:
    """Let a frozen tree go on."""
    _signal(root, signal.SIGCONT)


def kill(root: int) -> None:
    """End every process of a tree at once."""
    _signal(root, signal.SIGKILL)


def _signal(root: int, number: signal.Signals) -> None:
    for pid in tree(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
