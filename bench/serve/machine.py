"""What this machine can do at best, and who else uses it."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench.serve.processes import TICKS, cpu_seconds

MATRIX, READ_BYTES, ROUNDS = 1024, 2**28, 12


def matmul_flops() -> float:
    """Return the best rate of float32 matrix products, in operations a second."""
    a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
    return 2 * MATRIX**3 / _best(lambda: torch.mm(a, b))


def read_bandwidth() -> float:
    """Return the best rate at which memory is read, in bytes a second."""
    block = torch.ones(READ_BYTES // 4)
    return READ_BYTES / _best(lambda: block.sum())


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


class ForeignCpu:
    """The share of the machine that anyone but this process and those it started used since this was made."""

    def __init__(self) -> None:
        self._busy, self._own, self._start = _busy(), cpu_seconds(os.getpid()), time.perf_counter()

    def share(self) -> float:
        """Return it, from 0 to 1."""
        seconds = time.perf_counter() - self._start
        foreign = (_busy() - self._busy) - (cpu_seconds(os.getpid()) - self._own)
        return max(0.0, foreign) / seconds / (os.cpu_count() or 1)


def _busy() -> float:
    """CPU seconds that the machine has spent on anything but idling."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS
