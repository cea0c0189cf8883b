"""What is measured: techniques, and for each the variants that are held against the first of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.optimization import workloads
from bench.optimization.workloads import Cell
from byollm.engine import Engine
from byollm.modeling.packed import NF4_GROUP, Scheme

CORES = len(os.sched_getaffinity(0))
GROUP = 128

Workload = Callable[[Engine, Cell], dict[str, float]]


@dataclass(frozen=True)
class Metric:
    """A number that a workload yields.

    Attributes:
        label: what it is, with its unit.
        rises: whether more is better.
    """

    label: str
    rises: bool = True


METRICS = {
    "decode": Metric("answers, tokens/s"),
    "read": Metric("prompts, tokens/s"),
    "copying": Metric("answers that copy, tokens/s"),
    "requests": Metric("requests/s"),
    "first": Metric("first token after, ms", rises=False),
    "gap": Metric("longest pause of the others, ms", rises=False),
}


@dataclass(frozen=True, eq=False)
class Variant:
    """One way of running a model.

    Attributes:
        name: what tables call it.
        settings: of the engine.
        scheme: how the weights are packed first, if they are.
        adapters: how many adapters the requests have among them.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    scheme: Scheme | None = None
    adapters: int = 0


@dataclass(frozen=True)
class Technique:
    """Something that can be had or left.

    Attributes:
        key: names its figures and its place in the document.
        title: what the picture is headed with.
        variants: ways of running a model; the others are held against the first.
        workload: what is measured.
        least_batch: the smallest number of requests at which it means anything.
        trained: whether it means nothing with random weights.
    """

    key: str
    title: str
    variants: tuple[Variant, ...]
    workload: Workload
    least_batch: int = 1
    trained: bool = False


TECHNIQUES = (
    Technique(
        "kernels",
        "compiled kernels over torch",
        (Variant("torch", {"kernels": "torch", "dtype": "float32"}), Variant("compiled")),
        workloads.answer,
    ),
    Technique(
        "weights",
        "packed weights over bfloat16",
        (
            Variant("bfloat16"),
            Variant("int8", scheme=Scheme("int8", GROUP)),
            Variant("int4", scheme=Scheme("int4", GROUP)),
            Variant("nf4", scheme=Scheme("nf4", NF4_GROUP)),
        ),
        workloads.answer,
    ),
    Technique(
        "prefix",
        "shared beginnings found in the cache",
        (Variant("computed", {"prefix_caching": False}), Variant("found", {"prefix_caching": True})),
        workloads.share_beginning,
    ),
    Technique(
        "speculation",
        "guessing ahead",
        (Variant("off"), Variant("auto", {"speculative": "auto"})),
        workloads.copy_text,
        trained=True,
    ),
    Technique(
        "budget",
        "token budget of a step",
        (
            Variant("256", {"max_batch_tokens": 256}),
            Variant("64", {"max_batch_tokens": 64}),
            Variant("1024", {"max_batch_tokens": 1024}),
        ),
        workloads.interrupt,
        least_batch=2,
    ),
    Technique(
        "adapters",
        "LoRA adapters in slots",
        (Variant("none"), Variant("one", adapters=1), Variant("eight", adapters=8)),
        workloads.answer,
    ),
    Technique(
        "threads",
        "threads",
        (Variant("1", {"threads": 1}), Variant(str(CORES), {"threads": CORES})),
        workloads.answer,
    ),
)
