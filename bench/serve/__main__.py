"""Measures every contender that is installed on the same prompts, alternating, with repeats.

    make bench-peers        # the peers, each in an environment of its own
    python -m bench.serve --model bundled --model smollm2-135m --threads 2

Prompts are random, 128 tokens in and 128 out, greedy. Only one process is awake at a time. A run during which
others used more than a twentieth of the machine is repeated. The last line is one JSON object, with
`ratio_to_best_peer` by model, kind of weights and number of concurrent requests.
"""

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from bench.serve.contenders import OURS, PEERS, Contender, Worker
from bench.serve.machine import ForeignCpu, matmul_flops, read_bandwidth
from bench.serve.models import model_directory
from byollm.modeling import DecoderConfig, load_config

PROMPT, ANSWER = 128, 128
DISTURBED, ATTEMPTS = 0.05, 3


@dataclass
class Runs:
    """What one contender did at one number of concurrent requests, a value a repeat."""

    speeds: list[float] = field(default_factory=list)  # tokens/s
    firsts: list[float] = field(default_factory=list)  # seconds to the median request's first token
    gaps: list[float] = field(default_factory=list)  # seconds between tokens, of all repeats
    foreign: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, reply: dict[str, Any], foreign: float) -> None:
        """Take in a reply of a worker."""
        times, start = reply["times"], reply["start"]
        self.speeds.append(sum(map(len, times)) / (max(each[-1] for each in times) - start))
        self.firsts.append(statistics.median(each[0] - start for each in times))
        self.gaps += [later - sooner for each in times for sooner, later in itertools.pairwise(each)]
        self.foreign.append(foreign)
        self.peak_bytes = max(self.peak_bytes, reply["peak_bytes"])

    @property
    def speed(self) -> float:
        """The median."""
        return statistics.median(self.speeds)


def main(
    model: Annotated[list[str] | None, typer.Option(help="bundled, smollm2-135m, or a directory.")] = None,
    concurrency: Annotated[list[int] | None, typer.Option(help="By default 1, 8 and 32.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each.")] = 3,
    threads: Annotated[int, typer.Option(help="CPU threads of every contender.")] = 2,
    peers: Annotated[Path, typer.Option(help="Where the peers' environments are.")] = Path("var/peers"),
    only: Annotated[str, typer.Option(help="Only contenders with this in their name.")] = "",
) -> None:
    """Measure our engine beside its peers."""
    torch.set_num_threads(threads)
    peers.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 150)
    flops, bandwidth = matmul_flops(), read_bandwidth()
    console.print(
        f"{threads} threads; float32 products {flops / 1e9:.0f} GFLOP/s, reading {bandwidth / 1e9:.0f} GB/s; "
        f"commit {_commit()}"
    )
    wanted = [each for each in (*OURS, *PEERS) if only in each.name]
    chosen = [each for each in wanted if each.python(peers).exists()]
    for missing in (each for each in wanted if each not in chosen):
        console.print(f"not installed: {missing.name}")
    report: dict[str, Any] = {"commit": _commit(), "threads": threads, "flops": flops, "bandwidth": bandwidth}
    for name in model or ["bundled", "smollm2-135m"]:
        directory = model_directory(name, peers)
        runs = _measure(directory, chosen, concurrency or [1, 8, 32], repeats, threads, peers, console)
        console.print(_table(name, runs, load_config(directory), flops, bandwidth))
        report[name] = _summary(runs)
    print(json.dumps(report))


def _measure(
    model: Path,
    contenders: list[Contender],
    concurrency: list[int],
    repeats: int,
    threads: int,
    peers: Path,
    console: Console,
) -> dict[tuple[Contender, int], Runs]:
    vocab = load_config(model).vocab_size
    workers = []
    for contender in contenders:
        try:
            worker = Worker(contender, model, peers, threads)
        except RuntimeError as error:
            console.print(f"[red]{contender.name} cannot serve {model.name}[/]: {str(error)[-800:]}")
            continue
        os.kill(worker.pid, signal.SIGSTOP)
        workers.append(worker)
    runs = {(worker.contender, requests): Runs() for requests in concurrency for worker in workers}
    try:
        for requests in concurrency:
            for repeat in range(-1, repeats):  # the first one warms up
                generator = torch.Generator().manual_seed(1000 * requests + repeat)
                prompts = torch.randint(3, vocab, (requests, PROMPT), generator=generator).tolist()
                for worker in workers:
                    reply, foreign = _undisturbed(worker, prompts)
                    if repeat >= 0:
                        runs[worker.contender, requests].add(reply, foreign)
    finally:
        for worker in workers:
            os.kill(worker.pid, signal.SIGCONT)
            worker.close()
    return runs


def _undisturbed(worker: Worker, prompts: list[list[int]]) -> tuple[dict[str, Any], float]:
    os.kill(worker.pid, signal.SIGCONT)
    try:
        for _ in range(ATTEMPTS):
            foreign = ForeignCpu([worker.pid])
            reply = worker.generate(prompts, ANSWER)
            share = foreign.share()
            if share <= DISTURBED:
                break
        return reply, share
    finally:
        os.kill(worker.pid, signal.SIGSTOP)


def _table(
    name: str, runs: dict[tuple[Contender, int], Runs], config: DecoderConfig, flops: float, bandwidth: float
) -> Table:
    table = Table(
        "concurrent", "contender", "tokens/s", "spread", "first token", "gap p50", "gap p99", "peak memory",
        "of ceiling", "foreign CPU", title=f"{name}: {PROMPT} tokens in, {ANSWER} out, greedy",
    )  # fmt: skip
    for (contender, requests), run in runs.items():
        gaps = statistics.quantiles(run.gaps, n=100)
        table.add_row(
            str(requests),
            contender.name,
            f"{run.speed:,.0f}",
            f"{min(run.speeds):,.0f}-{max(run.speeds):,.0f}",
            f"{1e3 * statistics.median(run.firsts):,.1f} ms",
            f"{1e3 * gaps[49]:,.2f} ms",
            f"{1e3 * gaps[98]:,.2f} ms",
            f"{run.peak_bytes / 2**20:,.0f} MiB",
            f"{run.speed / _ceiling(contender, requests, config, flops, bandwidth):.0%}",
            f"{max(run.foreign):.0%}",
        )
    return table


def _ceiling(
    contender: Contender, requests: int, config: DecoderConfig, flops: float, bandwidth: float
) -> float:
    """Tokens/s if a step did nothing but read all weights once, and multiply at the measured peak."""
    bits = 4.5 if "4" in contender.weights else 8.5 if "8" in contender.weights else 16
    if contender.weights in ("f32", "float32"):
        bits = 32
    elif contender.weights in ("bf16", "bfloat16"):
        bits = 16
    products = config.flops_per_token(0) / 2  # weights that a token is multiplied with
    reading = products * bits / 8 / bandwidth
    multiplying = requests * config.flops_per_token(PROMPT + ANSWER // 2) / flops
    return requests / max(reading, multiplying)


def _summary(runs: dict[tuple[Contender, int], Runs]) -> dict[str, Any]:
    ratios: dict[str, dict[int, float]] = {"wide": {}, "narrow": {}}
    for kind, narrow in (("wide", False), ("narrow", True)):
        for requests in dict.fromkeys(requests for _, requests in runs):
            same = {c: run.speed for (c, n), run in runs.items() if n == requests and c.narrow == narrow}
            ours = [speed for c, speed in same.items() if c in OURS]
            theirs = [speed for c, speed in same.items() if c not in OURS]
            if ours and theirs:
                ratios[kind][requests] = round(max(ours) / max(theirs), 3)
    detail = [
        {"contender": c.name, "concurrent": n, "tokens_per_second": run.speeds, "foreign_cpu": run.foreign}
        for (c, n), run in runs.items()
    ]
    return {"ratio_to_best_peer": ratios, "runs": detail}


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    typer.run(main)
