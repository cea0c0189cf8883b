"""Runs the variants of a technique in turn, so that what disturbs the machine disturbs all alike."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from bench.optimization.techniques import CORES, Technique
from bench.optimization.variants import load
from bench.optimization.workloads import Cell
from bench.serve.machine import ForeignCpu
from bench.serve.rounds import Prompts
from byollm.engine.runner import spare_threads
from byollm.modeling import load_config

ATTEMPTS = 3
WARM_UP = 64  # tokens of context


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        batches: requests at a time.
        contexts: tokens of a prompt and its answer together.
        repeats: runs of each variant.
        seconds: after so long, a variant is not run again in this place.
        foreign: a run during which others used more than this share of the machine is repeated.
    """

    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    repeats: int
    seconds: float
    foreign: float


@dataclass
class Measured:
    """What a variant did in one place; one value a run."""

    batch: int
    context: int
    variant: str
    values: dict[str, list[float]] = field(default_factory=dict)
    foreign: list[float] = field(default_factory=list)
    spent: float = 0.0  # seconds, discarded runs included

    def run(self, work: Callable[[], dict[str, float]], foreign: float) -> None:
        """Take in a run; where others use more of the machine than allowed, the quietest of several."""
        began, tries = time.perf_counter(), []
        for _ in range(ATTEMPTS):
            others = ForeignCpu()
            tries.append((work(), others.share()))
            if tries[-1][1] <= foreign:
                break
        values, share = min(tries, key=lambda each: each[1])
        for name, value in values.items():
            self.values.setdefault(name, []).append(round(value, 3))
        self.foreign.append(round(share, 3))
        self.spent += time.perf_counter() - began

    def as_dict(self) -> dict[str, Any]:
        """What is kept of it."""
        return {name: value for name, value in asdict(self).items() if name != "spent"}


def measure(technique: Technique, model: Path, plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield what each variant does with a model, place after place."""
    prompts = Prompts(load_config(model).vocab_size)
    with tempfile.TemporaryDirectory() as work:
        engines = [(each, *load(each, model, Path(work))) for each in technique.variants]
        for _, engine, adapters in engines:  # the first run fills slots and buffers
            technique.workload(engine, Cell(technique.least_batch, WARM_UP, prompts, adapters))
        for batch, context in product(plan.batches, plan.contexts):
            if batch < technique.least_batch:
                continue
            rows = {variant: Measured(batch, context, variant.name) for variant, *_ in engines}
            for _ in range(plan.repeats):
                for variant, engine, adapters in engines:
                    if rows[variant].spent <= plan.seconds:
                        # Loading another engine may have changed it.
                        torch.set_num_threads(variant.settings.get("threads", CORES))
                        spare_threads(engine.runner)
                        cell = Cell(batch, context, prompts, adapters)
                        rows[variant].run(partial(technique.workload, engine, cell), plan.foreign)
            yield from (row.as_dict() for row in rows.values())
