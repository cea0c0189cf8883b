"""Measures every contender that is installed on the same prompts, alternating, with repeats.

    make bench-peers                      # the peers, each in an environment of its own
    python -m bench.serve --prepare       # converts and compiles what they need, once
    python -m bench.serve                 # engines, servers, and our server under load
    python -m bench.serve --part servers --model bundled --concurrency 8

Prompts are random token ids, 128 in and 128 out, greedy. Only one contender works at a time. Servers are
asked over HTTP by a client on the same cores. A run during which others used more than a twentieth of the
machine is repeated. The last line is one JSON object, with `ratio_to_best_peer` by part, model, kind of
weights and number of concurrent requests.
"""

import json
import subprocess
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from bench.serve import load, report, rounds
from bench.serve.contenders import ENGINES, SERVERS, Contender, ContenderError, Setup
from bench.serve.machine import matmul_flops, read_bandwidth
from bench.serve.models import BUNDLED, model_directory
from byollm.modeling import load_config


class Part(StrEnum):
    """What can be measured."""

    ENGINES = "engines"
    SERVERS = "servers"
    LOAD = "load"


def main(
    part: Annotated[list[Part] | None, typer.Option(help="By default all, one after the other.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="bundled, smollm2-135m, or a directory.")] = None,
    concurrency: Annotated[list[int] | None, typer.Option(help="By default 1, 8 and 32.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each.")] = 3,
    seconds: Annotated[float, typer.Option(help="After so long, a contender is not asked to repeat.")] = 60,
    patience: Annotated[float, typer.Option(help="Seconds to become ready, or to end a run.")] = 300,
    foreign: Annotated[float, typer.Option(help="Share of the machine that others may use in a run.")] = 0.05,
    threads: Annotated[int, typer.Option(help="CPU threads of every contender.")] = 2,
    peers: Annotated[Path, typer.Option(help="Where the peers' environments are.")] = Path("var/peers"),
    only: Annotated[list[str] | None, typer.Option(help="Contenders with this in their name.")] = None,
    prepare: Annotated[bool, typer.Option(help="Measure nothing: convert, compile and cache.")] = False,
) -> None:
    """Measure our engine and our server beside their peers."""
    torch.set_num_threads(threads)
    peers.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 180)
    plan = rounds.Plan(tuple(concurrency or (1, 8, 32)), repeats, seconds, foreign)
    setup = Setup(BUNDLED, peers, threads, patience)
    models = [(name, model_directory(name, peers)) for name in model or ("bundled", "smollm2-135m")]
    contenders = {
        Part.ENGINES: _installed(ENGINES, peers, only or [""], console),
        Part.SERVERS: _installed(SERVERS, peers, only or [""], console),
    }
    parts = part or list(Part)
    if prepare:
        for _, directory in models:
            for chosen in parts:
                _prepare(contenders.get(chosen, []), replace(setup, model=directory), console)
        return
    flops, bandwidth = matmul_flops(), read_bandwidth()
    done: dict[str, Any] = {"commit": _commit(), "threads": threads, "flops": flops, "bandwidth": bandwidth}
    console.print(
        f"{threads} threads; float32 products {flops / 1e9:.0f} GFLOP/s, reading {bandwidth / 1e9:.0f} GB/s; "
        f"commit {_commit()}"
    )
    for chosen in parts:
        if chosen is Part.LOAD:
            done[chosen] = load.measure(setup, plan, console)
            continue
        done[chosen] = {}
        for name, directory in models:
            results = rounds.measure(contenders[chosen], replace(setup, model=directory), plan, console)
            console.print(report.table(name, results, load_config(directory), flops, bandwidth))
            done[chosen][name] = report.summary(results)
    print(json.dumps(done))


def _installed(
    wanted: tuple[Contender, ...], peers: Path, only: list[str], console: Console
) -> list[Contender]:
    asked = [each for each in wanted if any(part in each.name for part in only)]
    for missing in (each for each in asked if not each.installed(peers)):
        console.print(f"not installed: {missing.name}")
    return [each for each in asked if each.installed(peers)]


def _prepare(contenders: list[Contender], setup: Setup, console: Console) -> None:
    """Let each load the model once: it keeps what it converts and compiles."""
    for contender in contenders:
        with console.status(f"{setup.model.name}: {contender.name}"):
            try:
                rounds.start(contender, setup).close()
            except ContenderError as error:
                console.print(f"[red]{contender.name} cannot serve {setup.model.name}[/]: {error}")
            else:
                console.print(f"{setup.model.name}: {contender.name} is ready")


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    typer.run(main)
