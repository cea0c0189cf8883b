"""What LoRA adapters cost: the same work for the base model and with adapters, alternating in one run.

    python -m bench.adapters --model bundled

A variant has some requests at a time, each with one of so many adapters. Its throughput is held against that
of the base in the run beside it; the last line is one JSON object. The mark is 15 % less at most.
"""

import json
import os
import random
import statistics
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from bench.serve.machine import ForeignCpu
from bench.serve.models import model_directory
from byollm.engine import Engine, SamplingParams
from byollm.modeling import DecoderConfig
from byollm.modeling.adapter import linear_shapes
from byollm.modeling.adapter_config import CONFIG, WEIGHTS
from byollm.settings import load_settings

MARK = 0.85  # of the base's throughput


def main(
    model: Annotated[str, typer.Option(help="bundled, smollm2-135m, stablelm-3b or a path.")] = "bundled",
    made: Annotated[Path, typer.Option(help="Where the random ones are made.")] = Path("var/peers"),
    rank: Annotated[int, typer.Option(help="Of each adapter.")] = 16,
    adapters: Annotated[list[int] | None, typer.Option(help="How many; by default 1, 4 and 8.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Requests at a time; by default 1, 8, 32.")] = None,
    tokens: Annotated[int, typer.Option(help="Of each question, and of each answer.")] = 128,
    repeats: Annotated[int, typer.Option(help="Runs of each variant.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Measure the throughput of every batch with 0 and with so many adapters."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    counts = adapters or [1, 4, 8]
    settings = load_settings().engine.override(
        speculative="off", prefix_caching=False, adapter_slots=max(counts), max_adapter_rank=rank
    )
    engine, foreign = Engine.load(model_directory(model, made), settings), ForeignCpu()
    with TemporaryDirectory() as directory:
        for number in range(max(counts)):
            write_adapter(Path(directory), engine.runner.config, rank, number)
            engine.adapters.load(f"adapter-{number}", Path(directory))
    table = Table("requests", "adapters", "tokens/s", "of the base", f"at least {MARK:.0%}")
    results: list[dict[str, Any]] = []
    for requests in batch or [1, 8, 32]:
        speeds: dict[int, list[float]] = {count: [] for count in (0, *counts) if count <= requests}
        for count in speeds:
            _run(engine, requests, count, tokens, repeat=-1)  # the first time fills slots and buffers
        for repeat in range(repeats):
            for count, measured in speeds.items():
                measured.append(_run(engine, requests, count, tokens, repeat))
        for count, measured in speeds.items():
            share = statistics.median(speed / base for speed, base in zip(measured, speeds[0], strict=True))
            spread = f"{statistics.median(measured):,.0f} ({min(measured):,.0f}-{max(measured):,.0f})"
            table.add_row(str(requests), str(count), spread, f"{share:.1%}", "yes" if share >= MARK else "no")
            results.append({"requests": requests, "adapters": count, "tokens_s": measured, "share": share})
    print(
        f"{model}, rank {rank}, {tokens} tokens in, {tokens} out, {type(engine.runner).__name__}, "
        f"{torch.get_num_threads()} threads, {_commit()}; others used {foreign.share():.0%} of the machine"
    )
    Console().print(table)
    print(json.dumps({"model": model, "rank": rank, "commit": _commit(), "results": results}))


def _run(engine: Engine, requests: int, adapters: int, length: int, repeat: int) -> float:
    """Return the tokens a second of so many requests at a time, adapters in turn."""
    draw = random.Random(f"{requests} {repeat}")
    params = SamplingParams(max_tokens=length, temperature=0, ignore_eos=True)
    for number in range(requests):
        prompt = [draw.randrange(engine.limits.vocab_size) for _ in range(length)]
        adapter = f"adapter-{number % adapters}" if adapters else None
        engine.add_request(str(number), prompt, params, adapter=adapter)
    started = time.perf_counter()
    tokens = 0
    while engine.has_unfinished():
        tokens += sum(len(output.token_ids) for output in engine.step())
    return tokens / (time.perf_counter() - started)


def write_adapter(directory: Path, config: DecoderConfig, rank: int, seed: int) -> None:
    """Write a random adapter of all linear layers as PEFT does."""
    if config.family == "gpt2":
        raise typer.BadParameter("GPT-2 stores its layers under other names: measure another family")
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (rows, columns) in linear_shapes(config).items():
        stem = f"base_model.model.model.{name}"
        tensors[f"{stem}.lora_A.weight"] = 0.02 * torch.randn(rank, columns, generator=generator)
        tensors[f"{stem}.lora_B.weight"] = 0.02 * torch.randn(rows, rank, generator=generator)
    said = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "bias": "none"}
    (directory / CONFIG).write_text(json.dumps(said))
    save_file(tensors, directory / WEIGHTS)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    typer.run(main)
