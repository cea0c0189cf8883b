"""Our server as a user has it: from cold, alone, in a crowd, under a steady load."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from bench.serve import processes
from bench.serve.contenders import Contender, ContenderError, Setup
from bench.serve.machine import ForeignCpu
from bench.serve.report import percentile
from bench.serve.rounds import ATTEMPTS, Plan, Prompts
from bench.serve.servers import Server
from byollm.modeling import load_config

SERVER = Contender("byollm serve", "byollm", "default")
PROMPT, ANSWER = 32, 50
ALONE, STREAMS = 50, 32
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


def measure(setup: Setup, plan: Plan, console: Console) -> dict[str, Any]:
    """Measure and print all; return the summary."""
    prompts = Prompts(load_config(setup.model).vocab_size)
    done: dict[str, Any] = {}

    def mark(name: str, work: Callable[[], Mark]) -> None:
        with console.status(f"byollm serve: {name}"):
            tries: list[Mark] = []
            while len(tries) < ATTEMPTS and not (tries and tries[-1].foreign <= plan.foreign):
                foreign = ForeignCpu()
                tries.append(replace(work(), foreign=foreign.share()))
        done[name] = min(tries, key=lambda each: each.foreign).summary
        console.print(name, done[name])

    mark("cold start", lambda: Mark([_cold_start(setup) for _ in range(plan.repeats)]))
    server = Server(SERVER, setup)
    try:
        mark("50 tokens alone", lambda: _alone(server, prompts))
        mark("first of 32 streams", lambda: _crowds(server, prompts, plan.repeats))
        mark("100 requests/s", lambda: _load(server, prompts, stream=False))
        mark("100 streams/s", lambda: _load(server, prompts, stream=True))
        done["peak_bytes"] = processes.peak_bytes(server.pid)
    finally:
        server.close()
    return done


def _cold_start(setup: Setup) -> float:
    """From the start of the process to its first answer."""
    server = Server(SERVER, setup)
    server.close()
    return server.ready_seconds


def _alone(server: Server, prompts: Prompts) -> Mark:
    """Plain requests, one after the other."""
    answers = [server.send([0.0], prompts.draw(1, PROMPT), ANSWER, stream=False)[0] for _ in range(ALONE)]
    return Mark([answer.seconds for answer in answers])


def _crowds(server: Server, prompts: Prompts, repeats: int) -> Mark:
    """The first token of streams that come together."""
    firsts = []
    for _ in range(repeats):
        reply = server.generate(prompts.draw(STREAMS), ANSWER)
        firsts += [times[0] - reply.start for times in reply.times]
    return Mark(firsts)


def _load(server: Server, prompts: Prompts, *, stream: bool) -> Mark:
    """Requests that come at random moments whatever became of those before; each takes from its moment on."""
    draw = random.Random(0)
    moments = sorted(draw.uniform(0, SECONDS) for _ in range(RATE * SECONDS))
    answers = server.send(moments, prompts.draw(len(moments), PROMPT), ANSWER, stream=stream)
    full = [answer for answer in answers if answer.tokens == ANSWER]
    if not full:
        raise ContenderError(f"none of {len(answers)} requests was answered")
    drain = max(answer.times[-1] for answer in full) - answers[-1].due
    return Mark([answer.seconds for answer in full], len(answers) - len(full), drain)
