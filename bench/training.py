"""A training step: tokens a second, its parts, and the distance to this machine's matmul peak.

    python -m bench.training --shape 192,4,3,1,512 --shape 256,7,4,2,704 --threads 1 --eager

A shape is width, layers, query heads, key-value heads and MLP width. The data is random, which costs the same
as text. On a CPU, times are of the processor, so that work of others on the same cores disturbs them little.
Compiled and eager steps, where both are asked for, alternate. The last line is one JSON object.
"""

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from byollm.modeling import Decoder, DecoderConfig
from byollm.settings import PretrainSettings
from byollm.settings.training import ModelShape
from byollm.training.hardware import Hardware
from byollm.training.stepper import Stepper

VOCABULARY, ROW, WARM = 8192, 512, 2
SIZES = ("hidden_size", "layers", "heads", "kv_heads", "intermediate_size")


class RandomRows:
    """Rows of random tokens without end."""

    vocab_size = VOCABULARY

    def batch(self, step: int, batch_size: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a step."""
        draw = torch.Generator().manual_seed(step)
        rows = torch.randint(0, VOCABULARY, (batch_size, length + 1), generator=draw)
        return rows[:, :-1], rows[:, 1:]

    def windows_per_epoch(self, length: int) -> int:
        """Return how many rows an epoch has."""
        return 2**31

    def windows(self, length: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield nothing: there is no text to validate on."""
        return iter(())


def main(
    shape: Annotated[list[str], typer.Option(help="WIDTH,LAYERS,HEADS,KV_HEADS,MLP.")],
    batch_size: Annotated[int, typer.Option(help="Rows of 512 tokens in a step.")] = 8,
    steps: Annotated[int, typer.Option(help="Steps measured.")] = 10,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
    eager: Annotated[bool, typer.Option("--eager", help="Also without torch.compile.")] = False,
) -> None:
    """Measure training steps."""
    recipe = PretrainSettings().override(batch_size=batch_size, threads=threads, sequence_length=ROW)
    hardware = Hardware.choose(recipe)
    peak = hardware.peak_flops()
    table = Table("shape", "parameters", "compiled", "tokens/s", "p50 ms", "p99 ms", "optimisers ms", "MFU")
    results = []
    for each in shape:
        sizes = ModelShape(**dict(zip(SIZES, map(int, each.split(",")), strict=True)))
        config = DecoderConfig(vocab_size=VOCABULARY, max_positions=ROW, **sizes.model_dump())
        flops = 3 * config.flops_per_token(ROW)
        for found in _measure(config, recipe, hardware, [True, False] if eager else [True], steps):
            found |= {"shape": each, "parameters": config.num_parameters()}
            found |= {"tokens_per_second": batch_size * ROW / found["p50"]}
            found |= {"mfu": found["tokens_per_second"] * flops / peak}
            table.add_row(
                each,
                f"{found['parameters']:,}",
                str(found["compiled"]),
                f"{found['tokens_per_second']:,.0f}",
                f"{1e3 * found['p50']:.0f}",
                f"{1e3 * found['p99']:.0f}",
                f"{1e3 * found['optimizers']:.0f}",
                f"{found['mfu']:.0%}",
            )
            results.append(found)
    workload = {"batch_size": batch_size, "sequence_length": ROW, **hardware.describe()}
    console = Console()
    console.print(f"{workload}, matmul peak {peak / 1e9:.0f} GFLOP/s, commit {_commit()}")
    console.print(table)
    print(json.dumps(workload | {"commit": _commit(), "peak_flops": peak, "results": results}))


def _measure(
    config: DecoderConfig, recipe: PretrainSettings, hardware: Hardware, modes: list[bool], steps: int
) -> list[dict[str, Any]]:
    rows, found = RandomRows(), []
    steppers = [Stepper(Decoder(config), rows, recipe, hardware, compiled) for compiled in modes]
    times: list[list[float]] = [[] for _ in modes]
    updates: list[list[float]] = [[] for _ in modes]
    for stepper, spent in zip(steppers, updates, strict=True):
        stepper.optimizers.step = _timed(stepper.optimizers.step, spent)  # type: ignore[method-assign]
    with hardware.deterministic():
        for step in range(WARM + steps):
            for stepper, spent in zip(steppers, times, strict=True):
                start = _clock()
                stepper.take(step, WARM + steps)
                spent.append(_clock() - start)
    for compiled, spent, updating in zip(modes, times, updates, strict=True):
        measured = sorted(spent[WARM:])
        found.append(
            {
                "compiled": compiled,
                "p50": statistics.median(measured),
                "p99": measured[min(len(measured) - 1, round(0.99 * len(measured)))],
                "optimizers": statistics.median(updating[WARM:]),
            }
        )
    return found


def _timed(function: Callable[..., None], spent: list[float]) -> Callable[..., None]:
    def timed(*arguments: Any) -> None:
        start = _clock()
        function(*arguments)
        spent.append(_clock() - start)

    return timed


def _clock() -> float:
    """Seconds: of the processor for each thread on a CPU, of the wall for a GPU."""
    if torch.cuda.is_available():
        return time.perf_counter()
    return time.process_time() / torch.get_num_threads()


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or os.environ.get("GIT_COMMIT", "unknown")


if __name__ == "__main__":
    typer.run(main)
