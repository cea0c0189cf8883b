"""Our server as a user has it: from cold, alone, in a crowd, under a steady load."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.serve import processes
from bench.serve.contenders import Contender, Setup
from bench.serve.machine import ForeignCpu
from bench.serve.report import percentile
from bench.serve.rounds import ATTEMPTS, DISTURBED, Prompts
from bench.serve.servers import Server
from byollm.modeling import load_config

SERVER = Contender("byollm serve", "byollm", "default")
PROMPT, ANSWER = 32, 50
STARTS, ALONE = 3, 50
STREAMS, CROWDS = 32, 5
RATE, SECONDS = 100, 20


@dataclass(frozen=True)
class Mark:
    """A measurement.

    Attributes:
        seconds: of each request that was answered in full.
        refused: how many were not.
        drain: seconds from the last request to the last answer.
        foreign: the share of the machine that others used.
    """

    seconds: list[float]
    refused: int = 0
    drain: float = 0.0
    foreign: float = 0.0

    @property
    def summary(self) -> dict[str, Any]:
        """For the last line."""
        shares = {f"p{share}": round(percentile(self.seconds, share / 100), 4) for share in (50, 95, 99)}
        return shares | {
            "requests": len(self.seconds) + self.refused,
            "refused": self.refused,
            "drain": round(self.drain, 3),
            "foreign_cpu": round(self.foreign, 3),
        }


def measure(setup: Setup, console: Console) -> dict[str, Any]:
    """Measure and print all; return the summary."""
    prompts = Prompts(load_config(setup.model).vocab_size)
    marks: dict[str, Mark] = {}

    def mark(name: str, work: Callable[[], Mark]) -> None:
        with console.status(f"byollm serve: {name}"):
            marks[name] = _undisturbed(work)

    mark("cold start", lambda: _cold_starts(setup))
    server = Server(SERVER, setup)
    try:
        mark("50 tokens alone", lambda: _alone(server, prompts))
        mark("first of 32 streams", lambda: _crowds(server, prompts))
        mark("100 requests/s", lambda: _load(server, prompts, stream=False))
        mark("100 streams/s", lambda: _load(server, prompts, stream=True))
        peak = processes.peak_bytes(server.pid)
    finally:
        server.close()
    summaries = {name: mark.summary for name, mark in marks.items()}
    console.print(_table(f"byollm serve, {setup.model.name}, at most {peak / 2**20:,.0f} MiB", summaries))
    return summaries | {"peak_bytes": peak}


def _undisturbed(work: Callable[[], Mark]) -> Mark:
    tries: list[Mark] = []
    while len(tries) < ATTEMPTS and not (tries and tries[-1].foreign <= DISTURBED):
        foreign = ForeignCpu()
        tries.append(replace(work(), foreign=foreign.share()))
    return min(tries, key=lambda each: each.foreign)


def _cold_starts(setup: Setup) -> Mark:
    """From the start of the process to its first answer."""
    seconds = []
    for _ in range(STARTS):
        server = Server(SERVER, setup)
        seconds.append(server.ready_seconds)
        server.close()
    return Mark(seconds)


def _alone(server: Server, prompts: Prompts) -> Mark:
    """Plain requests, one after the other."""
    return Mark(
        [server.send([0.0], prompts.draw(1, PROMPT), ANSWER, stream=False)[0].seconds for _ in range(ALONE)]
    )


def _crowds(server: Server, prompts: Prompts) -> Mark:
    """The first token of streams that come together."""
    firsts = []
    for _ in range(CROWDS):
        reply = server.generate(prompts.draw(STREAMS), ANSWER)
        firsts += [times[0] - reply.start for times in reply.times]
    return Mark(firsts)


def _load(server: Server, prompts: Prompts, *, stream: bool) -> Mark:
    """Requests that come at random moments whatever became of those before; each takes from its moment on."""
    draw = random.Random(0)
    moments = sorted(draw.uniform(0, SECONDS) for _ in range(RATE * SECONDS))
    answers = server.send(moments, prompts.draw(len(moments), PROMPT), ANSWER, stream=stream)
    full = [answer for answer in answers if answer.tokens == ANSWER]
    drain = max(answer.times[-1] for answer in full) - answers[-1].due
    return Mark([answer.seconds for answer in full], len(answers) - len(full), drain)


def _table(title: str, summaries: dict[str, dict[str, Any]]) -> Table:
    table = Table("", "p50", "p95", "p99", "requests", "refused", "drained after", "foreign CPU", title=title)
    for name, row in summaries.items():
        table.add_row(
            name,
            *(f"{1e3 * row[share]:,.1f} ms" for share in ("p50", "p95", "p99")),
            str(row["requests"]),
            str(row["refused"]),
            f"{1e3 * row['drain']:,.0f} ms",
            f"{row['foreign_cpu']:.0%}",
        )
    return table
