"""Our engine beside transformers' `generate`, on the same weights and prompts, alternating in one run.

    python -m bench.engine --model models/byollm-tiny

Prints tokens/s at 1, 8 and 32 concurrent requests with the spread over the repeats, the share of the measured
matrix-product peak of this machine, and how busy it was with other work; the last line is one JSON object.
"""

import json
import os
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
from transformers import AutoModelForCausalLM

from byollm.engine import Engine, SamplingParams
from byollm.modeling import load_config
from byollm.settings import load_settings

PROMPT_TOKENS, ANSWER_TOKENS = 128, 128
MATRIX, PRODUCTS = 1024, 20


def main(
    model: Annotated[Path, typer.Option(help="Model directory.")] = Path("models/byollm-tiny"),
    concurrency: Annotated[
        list[int] | None, typer.Option(help="Requests at a time; by default 1, 8 and 32.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each; they alternate.")] = 3,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Measure decoding speed."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    # Without what would gain from prompts that come again and answers that repeat themselves.
    plain = {"dtype": "float32", "prefix_caching": False, "speculative": "off"}
    engine = Engine.load(model, load_settings().engine.override(**plain))
    reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    peak, config = _peak(), load_config(model)
    flops = config.flops_per_token(PROMPT_TOKENS + ANSWER_TOKENS // 2)
    table = Table("concurrent", "byollm", "transformers", "ratio", "share of matmul peak", "foreign CPU")
    results = []
    for requests in concurrency or [1, 8, 32]:
        prompts = torch.randint(3, config.vocab_size, (requests, PROMPT_TOKENS), generator=_seeded()).tolist()
        ours: list[float] = []
        theirs: list[float] = []
        foreign: list[float] = []
        for _ in range(repeats):
            for speeds, generate in ((ours, _engine(engine)), (theirs, _transformers(reference))):
                speed, busy = _measure(generate, prompts)
                speeds.append(speed)
                foreign.append(busy)
        best, other = statistics.median(ours), statistics.median(theirs)
        table.add_row(
            str(requests),
            f"{best:,.0f} ({min(ours):,.0f}-{max(ours):,.0f}) tokens/s",
            f"{other:,.0f} ({min(theirs):,.0f}-{max(theirs):,.0f}) tokens/s",
            f"{best / other:.2f}",
            f"{best * flops / peak:.0%}",
            f"{max(foreign):.0%}",
        )
        results.append(
            {"concurrent": requests, "byollm": ours, "transformers": theirs, "foreign_cpu": foreign}
        )
    Console().print(f"{model}: {PROMPT_TOKENS} tokens in, {ANSWER_TOKENS} out, greedy, float32, {_commit()}")
    Console().print(f"{torch.get_num_threads()} threads, matmul peak {peak / 1e9:.0f} GFLOP/s")
    Console().print(table)
    print(json.dumps({"model": str(model), "commit": _commit(), "peak_flops": peak, "results": results}))


def _engine(engine: Engine) -> Callable[[list[list[int]]], None]:
    def generate(prompts: list[list[int]]) -> None:
        params = SamplingParams(max_tokens=ANSWER_TOKENS, temperature=0.0, ignore_eos=True)
        for number, prompt in enumerate(prompts):
            engine.add_request(str(number), prompt, params)
        while engine.has_unfinished():
            engine.step()

    return generate


def _transformers(model: Any) -> Callable[[list[list[int]]], None]:
    def generate(prompts: list[list[int]]) -> None:
        tokens = torch.tensor(prompts)
        lengths: dict[str, Any] = {"max_new_tokens": ANSWER_TOKENS, "min_new_tokens": ANSWER_TOKENS}
        model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, **lengths)

    return generate


def _measure(generate: Callable[[list[list[int]]], None], prompts: list[list[int]]) -> tuple[float, float]:
    """Return generated tokens/s, and the share of the machine that others used meanwhile."""
    busy, own, started = _busy_seconds(), sum(os.times()[:4]), time.perf_counter()
    generate(prompts)
    seconds = time.perf_counter() - started
    foreign = (_busy_seconds() - busy) - (sum(os.times()[:4]) - own)
    return len(prompts) * ANSWER_TOKENS / seconds, max(0.0, foreign) / seconds / (os.cpu_count() or 1)


def _busy_seconds() -> float:
    """CPU seconds that the whole machine has spent on anything but idling (proc(5), /proc/stat)."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _peak() -> float:
    a, b = torch.randn(MATRIX, MATRIX), torch.randn(MATRIX, MATRIX)
    times = []
    for _ in range(PRODUCTS):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 2 * MATRIX**3 / min(times)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()


if __name__ == "__main__":
    typer.run(main)
