"""Where the time of a step goes: `python -m bench.profile --model models/byollm-tiny --concurrency 1`.

The parts inside the kernels are timed by the thread that calls them, waiting for the others included; the
rest is Python around them. The last line is one JSON object.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from byollm.engine import Engine, SamplingParams, step
from byollm.engine.native_runner import NativeRunner
from byollm.modeling import load_config
from byollm.settings import EngineSettings

PROMPT, ANSWER = 128, 128


def main(
    model: Annotated[Path, typer.Option(help="Model directory.")] = Path("models/byollm-tiny"),
    concurrency: Annotated[int, typer.Option(help="Requests at a time.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Show where the time of a decoding step goes."""
    settings = EngineSettings(kernels="native", threads=threads, speculative="off")
    engine = Engine.load(model, settings)
    runner = engine.runner
    assert isinstance(runner, NativeRunner)
    timed: dict[str, float] = {}
    engine.scheduler.schedule = _timed(engine.scheduler.schedule, "schedule", timed)  # type: ignore[method-assign]
    runner.run = _timed(runner.run, "run", timed)  # type: ignore[method-assign]
    step.sample = _timed(step.sample, "sample", timed)
    generator = torch.Generator().manual_seed(0)
    size = load_config(model).vocab_size
    params = SamplingParams(max_tokens=ANSWER, temperature=temperature, ignore_eos=True, seed=0)
    for number in range(concurrency):
        prompt = torch.randint(3, size, (PROMPT,), generator=generator).tolist()
        engine.add_request(str(number), prompt, params)
    while engine.scheduler.waiting or any(request.remaining > 1 for request in engine.scheduler.running):
        engine.step()
    timed.clear()
    before, steps, started = runner.profile(), 0, time.perf_counter()
    while engine.has_unfinished():
        engine.step()
        steps += 1
    total = time.perf_counter() - started
    inside = {name: seconds - before[name] for name, seconds in runner.profile().items()}
    parts = {f"kernels: {name}": seconds for name, seconds in inside.items()}
    parts["run: making the batch"] = timed["run"] - sum(inside.values())
    parts["schedule"], parts["sample"] = timed["schedule"], timed["sample"]
    parts["outputs: text, stops, books"] = total - sum(parts.values())
    table = Table("part", "µs a step", "share", title=f"{concurrency} requests, {threads} threads")
    for name, seconds in parts.items():
        table.add_row(name, f"{1e6 * seconds / steps:,.1f}", f"{seconds / total:.1%}")
    table.add_row("step", f"{1e6 * total / steps:,.1f}", "100.0%")
    Console().print(table)
    micro = {name: 1e6 * seconds / steps for name, seconds in parts.items()}
    print(json.dumps({"model": str(model), "concurrency": concurrency, "threads": threads, "us": micro}))


def _timed(function: Callable[..., Any], name: str, times: dict[str, float]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        times[name] = times.get(name, 0.0) + time.perf_counter() - started
        return result

    return timed


if __name__ == "__main__":
    typer.run(main)
