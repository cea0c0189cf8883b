"""Measures contenders in turn: all are loaded, one is at work."""

import itertools
import statistics
import time
from dataclasses import dataclass, field

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.serve import processes
from bench.serve.contenders import Contender, ContenderError, Reply, Running, Setup
from bench.serve.engines import Engine
from bench.serve.machine import ForeignCpu
from bench.serve.servers import Server
from byollm.modeling import load_config

PROMPT, ANSWER, WARM_UP = 128, 128, 8
ATTEMPTS = 3


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        concurrency: how many prompts at a time.
        repeats: runs of each contender.
        seconds: after so long, a contender is not asked to repeat at this concurrency.
        foreign: a run during which others used more than this share of the machine is repeated.
    """

    concurrency: tuple[int, ...]
    repeats: int
    seconds: float
    foreign: float


@dataclass
class Runs:
    """What one contender did at one number of concurrent requests."""

    speeds: list[float] = field(default_factory=list)  # tokens/s of each run
    firsts: list[float] = field(default_factory=list)  # seconds to the first token of each request
    gaps: list[float] = field(default_factory=list)  # seconds between tokens
    foreign: list[float] = field(default_factory=list)  # of each run
    peak_bytes: int = 0
    spent: float = 0.0  # seconds, discarded runs included

    def add(self, reply: Reply, foreign: float) -> None:
        """Take in a run."""
        self.speeds.append(reply.speed)
        self.firsts += [each[0] - reply.start for each in reply.times]
        self.gaps += [later - sooner for each in reply.times for sooner, later in itertools.pairwise(each)]
        self.foreign.append(foreign)

    @property
    def speed(self) -> float:
        """The median."""
        return statistics.median(self.speeds)


Results = dict[tuple[Contender, int], Runs]


class Prompts:
    """Random prompts, never the same twice, so that no cache knows their beginnings."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._generator = torch.Generator().manual_seed(0)

    def draw(self, count: int, length: int = PROMPT) -> list[list[int]]:
        """Return so many, as token ids."""
        drawn: list[list[int]] = torch.randint(
            3, self._vocabulary, (count, length), generator=self._generator
        ).tolist()
        return drawn


def start(contender: Contender, setup: Setup) -> Running:
    """Load a contender; it is awake."""
    return Server(contender, setup) if contender.serves else Engine(contender, setup)


def measure(contenders: list[Contender], setup: Setup, plan: Plan, console: Console) -> Results:
    """Run each contender at each concurrency; those that fail are reported and left out."""
    prompts = Prompts(load_config(setup.model).vocab_size)
    results: Results = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")

        def tell(what: str) -> None:
            progress.update(task, description=f"{setup.model.name}: {what}")

        running: list[Running] = []
        try:
            for contender in contenders:
                tell(f"starting {contender.name}")
                began = time.perf_counter()
                try:
                    running.append(start(contender, setup))
                except ContenderError as error:
                    console.print(f"[red]{contender.name} is left out[/]: {error}")
                    continue
                console.print(f"{contender.name} is ready after {time.perf_counter() - began:.1f} s")
                _rest(running[-1])
            for requests, repeat in itertools.product(plan.concurrency, range(plan.repeats + 1)):
                for each in list(running):
                    runs = results.setdefault((each.contender, requests), Runs())
                    if repeat > 1 and runs.spent > plan.seconds:
                        continue
                    tell(f"{requests} at a time, {each.contender.name}, run {repeat} of {plan.repeats}")
                    processes.thaw(each.pid)
                    try:
                        if repeat == 0:
                            each.generate(prompts.draw(requests), WARM_UP)
                        else:
                            _run(each, prompts, requests, runs, plan)
                            speed = f"{runs.speeds[-1]:,.0f} tokens/s"
                            console.print(f"{requests} at a time, {each.contender.name}: {speed}")
                    except ContenderError as error:
                        console.print(f"[red]{each.contender.name} fails at {requests}[/]: {error}")
                        running.remove(each)
                        each.close()
                    else:
                        _rest(each)
        finally:
            for each in running:
                each.close()
    return {key: runs for key, runs in results.items() if runs.speeds}


def _rest(contender: Running) -> None:
    """Let it use no processor; a server without requests sleeps anyway, and its watchdog must go on."""
    if not contender.contender.serves:
        processes.freeze(contender.pid)


def _run(contender: Running, prompts: Prompts, requests: int, runs: Runs, plan: Plan) -> None:
    """Add the run that was disturbed least, of several if need be and time allows."""
    tries = []
    for _ in range(ATTEMPTS):
        began, foreign = time.perf_counter(), ForeignCpu()
        reply = contender.generate(prompts.draw(requests), ANSWER)
        tries.append((foreign.share(), reply))
        runs.spent += time.perf_counter() - began
        if tries[-1][0] <= plan.foreign or runs.spent > plan.seconds:
            break
    share, reply = min(tries, key=lambda each: each[0])
    runs.add(reply, share)
    runs.peak_bytes = max(runs.peak_bytes, processes.peak_bytes(contender.pid))
