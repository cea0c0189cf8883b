"""Runs the variants of a technique in turn, so that what disturbs the machine disturbs all alike."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.optimization.techniques import CORES, Technique
from bench.optimization.variants import load
from bench.optimization.workloads import Cell
from bench.serve.machine import ForeignCpu
from bench.serve.rounds import Prompts
from byollm.modeling import load_config

ATTEMPTS = 3


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

    model: str
    batch: int
    context: int
    variant: str
    values: dict[str, list[float]] = field(default_factory=dict)
    foreign: list[float] = field(default_factory=list)

    def add(self, values: dict[str, float], foreign: float) -> None:
        """Take in a run."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(round(value, 3))
        self.foreign.append(round(foreign, 3))


def measure(technique: Technique, name: str, model: Path, plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield what each variant does with a model, place after place."""
    prompts = Prompts(load_config(model).vocab_size)
    with tempfile.TemporaryDirectory() as work:
        engines = {each.name: load(each, model, Path(work)) for each in technique.variants}
        for batch in plan.batches:
            for context in plan.contexts if batch >= technique.least_batch else ():
                rows = {each: Measured(name, batch, context, each) for each in engines}
                spent = dict.fromkeys(engines, 0.0)
                for repeat in range(plan.repeats):
                    for each, (engine, adapters) in engines.items():
                        if repeat and spent[each] > plan.seconds:
                            continue
                        began = time.perf_counter()
                        torch.set_num_threads(CORES)  # which loading an engine may have changed
                        cell = Cell(batch, context, prompts, adapters)
                        tries = []
                        for _ in range(ATTEMPTS):
                            foreign = ForeignCpu()
                            tries.append((technique.workload(engine, cell), foreign.share()))
                            if tries[-1][1] <= plan.foreign:
                                break
                        rows[each].add(*min(tries, key=lambda run: run[1]))
                        spent[each] += time.perf_counter() - began
                yield from map(asdict, rows.values())
