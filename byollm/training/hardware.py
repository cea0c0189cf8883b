"""What a run computes on: device, precision, threads, and how fast the machine multiplies matrices."""

import math
import os
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.utils.deterministic

from byollm.settings.training import Recipe
from byollm.training.errors import TrainingError

PEAK_SIZE = {"cpu": 1024, "cuda": 8192}
PEAK_SECONDS = 0.5


@dataclass(frozen=True)
class Hardware:
    """Where and in what precision to compute."""

    device: torch.device
    dtype: torch.dtype
    """Of the matrix products; weights are float32 always."""

    @classmethod
    def choose(cls, recipe: Recipe) -> "Hardware":
        """Resolve the recipe's `auto`s on this machine, and set torch's threads.

        Raises:
            TrainingError: the recipe asks for a GPU that is not there.
        """
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        cuda = torch.cuda.is_available()
        if recipe.device == "cuda" and not cuda:
            raise TrainingError(
                "device is cuda, but torch sees no GPU here. Set device to auto or cpu, or install a torch "
                "built for CUDA together with its driver."
            )
        device = torch.device("cuda" if cuda and recipe.device != "cpu" else "cpu")
        narrow = recipe.precision == "bfloat16" or (
            recipe.precision == "auto" and _multiplies_bfloat16(device)
        )
        return cls(device, torch.bfloat16 if narrow else torch.float32)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which matrix products have this precision."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @contextmanager
    def deterministic(self) -> Iterator[None]:
        """Make torch add in one order on a CPU, whatever the threads do; a GPU is left as it is.

        Without it, two threads of a compiled embedding's gradient add in the order in which they come.
        """
        before = torch.are_deterministic_algorithms_enabled()
        fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        try:
            if self.device.type == "cpu":
                torch.use_deterministic_algorithms(True)
                torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]

    def peak_flops(self) -> float:
        """Measure the floating point operations a second of the fastest square matrix product."""
        # on a CPU, processor time for each thread: what others do on the same cores does not count
        threads = torch.get_num_threads()
        clock = time.perf_counter if self.device.type == "cuda" else lambda: time.process_time() / threads
        size = PEAK_SIZE[self.device.type]
        a = torch.randn(size, size, device=self.device, dtype=self.dtype)
        best, until = math.inf, clock() + PEAK_SECONDS
        while best == math.inf or clock() < until:
            start = clock()
            a @ a
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, clock() - start)
        return 2 * size**3 / best

    def describe(self) -> dict[str, str | int]:
        """Name what the arithmetic of a run depends on besides its settings."""
        return {
            "device": self.device.type,
            "processor": _processor(self.device),
            "precision": str(self.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
