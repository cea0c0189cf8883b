"""What sharing the cache of common beginnings costs and gains, on and off alternating in one run.

    python -m bench.prefix --model models/byollm-tiny

Cost: prompts that share nothing, through the scheduler alone, and as a share of what the engine spends on
such a request. Gain: a chat of several turns, and requests behind one system prompt. All in processor time,
so other work on the machine weighs less; the last line is one JSON object.
"""

import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from bench.serve.machine import ForeignCpu
from byollm.engine import Engine, Request, SamplingParams
from byollm.engine.block_pool import BlockPool
from byollm.engine.scheduler import Scheduler
from byollm.engine.text_stream import TextStream
from byollm.settings import load_settings

PROMPT, ANSWER = 128, 32  # tokens
TURNS, SAID = 6, 40  # of a chat, and tokens a user says
SYSTEM, QUESTIONS = 256, 24  # tokens of a system prompt, and how many ask behind it

Work = Callable[[Engine, random.Random], None]


def main(
    model: Annotated[Path, typer.Option(help="Model directory.")] = Path("models/byollm-tiny"),
    repeats: Annotated[int, typer.Option(help="Runs of each; on and off alternate.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Measure cost and gain."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    settings, foreign = load_settings().engine.override(speculative="off"), ForeignCpu()
    engines = {on: Engine.load(model, settings.override(prefix_caching=on)) for on in (False, True)}
    table = Table("processor seconds", "off", "on", "off / on", "prompt tokens found")
    results: dict[str, Any] = {}
    for name, work in {"nothing shared": _random, "chat": _chat, "system prompt": _system}.items():
        spent: dict[bool, list[float]] = {False: [], True: []}
        before = engines[True].stats()
        for repeat in range(repeats):
            for on, engine in engines.items():
                started = time.process_time()
                work(engine, random.Random(f"{name} {repeat}"))
                spent[on].append(time.process_time() - started)
        after = engines[True].stats()
        asked = after.prefix_queries_total - before.prefix_queries_total
        found = (after.prefix_hits_total - before.prefix_hits_total) / asked
        ratio = statistics.median(spent[False]) / statistics.median(spent[True])
        table.add_row(name, _range(spent[False]), _range(spent[True]), f"{ratio:.2f}", f"{found:.0%}")
        results[name] = {"off": spent[False], "on": spent[True], "found": found}
    books = {on: [_books(on, repeat) for repeat in range(repeats * 2)] for on in (False, True)}
    extra = min(books[True]) - min(books[False])
    request = min(results["nothing shared"]["off"]) / QUESTIONS
    print(
        f"{model}, {torch.get_num_threads()} threads, {type(engines[True].runner).__name__}, {commit()}; "
        f"others used {foreign.share():.0%} of the machine"
    )
    Console().print(table)
    print(
        f"the books of a request that shares nothing ({PROMPT} tokens in, {ANSWER} out) take "
        f"{min(books[False]) * 1e6:.0f} µs off, {min(books[True]) * 1e6:.0f} µs on: "
        f"{extra / request:.2%} more of the {request * 1e3:.1f} ms that it takes in all"
    )
    results |= {"books_off": books[False], "books_on": books[True], "cost": extra / request}
    print(json.dumps({"model": str(model), "commit": commit(), "results": results}))


def _random(engine: Engine, draw: random.Random) -> None:
    """Prompts with nothing in common."""
    _ask(engine, [_tokens(draw, PROMPT) for _ in range(QUESTIONS)])


def _chat(engine: Engine, draw: random.Random) -> None:
    """Four chats side by side; each turn sends all that was said so far."""
    chats: list[list[int]] = [[] for _ in range(4)]
    for _ in range(TURNS):
        asked = [chat + _tokens(draw, SAID) for chat in chats]
        answers = _ask(engine, asked)
        chats = [said + answer for said, answer in zip(asked, answers, strict=True)]


def _system(engine: Engine, draw: random.Random) -> None:
    """Questions behind one long beginning."""
    system = _tokens(draw, SYSTEM)
    _ask(engine, [system + _tokens(draw, SAID) for _ in range(QUESTIONS)])


def _ask(engine: Engine, prompts: list[list[int]]) -> list[list[int]]:
    params = SamplingParams(max_tokens=ANSWER, temperature=0.0, ignore_eos=True)
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt, params)
    answers: list[list[int]] = [[] for _ in prompts]
    while engine.has_unfinished():
        for output in engine.step():
            answers[int(output.request_id)] += output.token_ids
    return answers


def _books(on: bool, repeat: int) -> float:
    """Return the seconds of a request in the scheduler, with nothing computed, in a cache that is full."""
    draw = random.Random(repeat)
    scheduler = Scheduler(BlockPool(512, 16), 32, 256, on)
    params = SamplingParams()
    requests = [
        Request(str(n), 0, _tokens(draw, PROMPT), PROMPT, params, 0, ANSWER, TextStream(None))
        for n in range(500)
    ]
    started = time.process_time()
    for request in requests:
        scheduler.add(request)
    while chunks := scheduler.schedule():
        for chunk in chunks:
            request = chunk.request
            if not chunk.samples:
                request.computed = chunk.end
                continue
            request.computed = len(request.tokens)
            scheduler.publish(request)
            request.append(5)
            if request.completion_tokens == ANSWER:
                scheduler.remove(request)
    return (time.process_time() - started) / len(requests)


def _tokens(draw: random.Random, count: int) -> list[int]:
    return [draw.randrange(3, 8000) for _ in range(count)]


def commit() -> str:
    """Return what is checked out."""
    described = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(described, capture_output=True, text=True, check=False).stdout.strip()


def _range(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"


if __name__ == "__main__":
    typer.run(main)
