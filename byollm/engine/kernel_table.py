"""What `byollm tune` does: a model's kernels at all its shapes, measured one after the other."""

import sys
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from byollm.engine.kernel_calls import KernelCalls
from byollm.engine.kernel_search import Call, Found, Measure, rows_to_tune, search
from byollm.kernels.packed import Scheme
from byollm.modeling import DecoderConfig
from byollm.settings.engine import EngineSettings


def measure_on_gpu(call: Call) -> float:
    """Return the median seconds of a call, with nothing of the last one left in the GPU's cache."""
    from triton.testing import do_bench

    milliseconds: float = do_bench(call, warmup=5, rep=25, return_mode="median")
    return milliseconds / 1000


def tune_kernels(
    config: DecoderConfig,
    scheme: Scheme | None,
    dtype: torch.dtype,
    device: torch.device,
    settings: EngineSettings,
    rows: Sequence[int] | None = None,
    measure: Measure = measure_on_gpu,
) -> list[Found]:
    """Measure the kernels of a model, with a progress bar on standard error.

    Args:
        config: the model's shape.
        scheme: how its weights are packed; None: they are not.
        dtype: of activations and cache.
        device: where to measure.
        settings: the engine's; say how many rows a step may have.
        rows: of steps; None: all buckets that the settings allow.
        measure: takes the time.
    """
    found: dict[str, Found] = {}
    wanted = rows or rows_to_tune(settings.max_running, settings.max_batch_tokens)
    context = min(settings.max_context or config.max_positions, config.max_positions)
    calls = KernelCalls(config, scheme, dtype, device, context, settings.adapter_slots)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("steps", total=len(wanted))
        for count in wanted:
            bar.update(task, description=f"steps of {count} rows")
            for call in calls.of(count):
                for one in search(call, measure):
                    found[one.place] = one
                    bar.update(task, description=f"steps of {count} rows: {one.place}")
            bar.advance(task)
    return list(found.values())
