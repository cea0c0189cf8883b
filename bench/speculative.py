"""What guessing ahead gains: the engine with `speculative` off and auto, alternating in one run.

    python -m bench.speculative --model models/byollm-tiny

Two workloads: text that the model is brought to copy, as answers from documents do, and the page's example
questions as a chat, greedy and drawn. Prints how many guesses came true, tokens a step of one sequence, and
the ratio of the processor times; the last line is one JSON object.
"""

import json
import os
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from bench.prefix import commit
from bench.serve.machine import ForeignCpu
from byollm.engine import Engine, SamplingParams
from byollm.settings import load_settings

ANSWER = 96  # tokens at most
PASSAGES = [
    "The lighthouse on the northern cape was built in 1871 by forty workers. Its lamp burned oil until "
    "1924, when a cable from the village brought electricity. Today the keeper's house is a small museum.",
    "To reset the device, hold the round button for ten seconds until the green light blinks twice. Then "
    "connect the cable to the left port and wait. If the light stays red, repeat the first step.",
    "Rivers carry sand and clay from the mountains to the sea. Where the water slows down, the heavy grains "
    "fall first and the fine ones last. After many years the layers become stone that tells of old floods.",
    "The council met on Tuesday and agreed to plant two hundred trees along the main road. The mayor said "
    "that the work would begin in March. Three members voted against the plan because of its price.",
]


def main(
    model: Annotated[Path, typer.Option(help="Model directory.")] = Path("models/byollm-tiny"),
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Requests at a time; by default 1, 2 and 4.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each; off and auto alternate.")] = 5,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Measure acceptance and gain."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    settings, foreign = load_settings(), ForeignCpu()
    engines = {
        mode: Engine.load(model, settings.engine.override(speculative=mode)) for mode in ("off", "auto")
    }
    tokenizer = engines["off"].tokenizer
    assert tokenizer is not None
    copied = [tokenizer.encode(f"{text}\n\n{text}\n\n{text[:24]}") for text in PASSAGES]
    questions = settings.page.examples[:4]
    chats = [tokenizer.apply_chat_template([{"role": "user", "content": text}]) for text in questions]
    greedy, drawn = {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.95}
    table = Table("workload", "at a time", "off / auto", "guessed right", "tokens a step", "same tokens")
    results = []
    for name, prompts, params in (
        ("copying, greedy", copied, greedy),
        ("chat, greedy", chats, greedy),
        ("chat, drawn", chats, drawn),
    ):
        for together in concurrency or [1, 2, 4]:
            row = _measure(engines, prompts, params, together, repeats)
            ratio = statistics.median(row["off"]) / statistics.median(row["auto"])
            table.add_row(
                name,
                str(together),
                f"{ratio:.2f}",
                f"{row['accepted']} of {row['drafted']}",
                f"{row['tokens'] / (row['tokens'] - row['accepted']):.2f}",
                "yes" if row["same"] else "no",
            )
            results.append({"workload": name, "together": together, "ratio": ratio} | row)
    print(
        f"{model}, {torch.get_num_threads()} threads, {type(engines['auto'].runner).__name__}, {commit()}; "
        f"others used {foreign.share():.0%} of the machine"
    )
    Console().print(table)
    print(json.dumps({"model": str(model), "commit": commit(), "results": results}))


def _measure(
    engines: dict[str, Engine], prompts: list[list[int]], params: dict[str, Any], together: int, repeats: int
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"off": [], "auto": []}
    answers: dict[str, list[list[int]]] = {}
    before = engines["auto"].stats()
    for _ in range(repeats):
        for mode, engine in engines.items():
            started = time.process_time()
            answers[mode] = [
                answer
                for first in range(0, len(prompts), together)
                for answer in _ask(engine, prompts[first : first + together], params)
            ]
            seconds[mode].append(time.process_time() - started)
    after = engines["auto"].stats()
    return seconds | {
        "same": answers["off"] == answers["auto"],
        "tokens": sum(map(len, answers["auto"])),
        "drafted": (after.draft_tokens_total - before.draft_tokens_total) // repeats,
        "accepted": (after.accepted_tokens_total - before.accepted_tokens_total) // repeats,
    }


def _ask(engine: Engine, prompts: list[list[int]], params: dict[str, Any]) -> list[list[int]]:
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt, SamplingParams(max_tokens=ANSWER, seed=number, **params))
    answers: list[list[int]] = [[] for _ in prompts]
    while engine.has_unfinished():
        for output in engine.step():
            answers[int(output.request_id)] += output.token_ids
    return answers


if __name__ == "__main__":
    typer.run(main)
