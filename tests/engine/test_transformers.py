"""Greedy answers equal transformers' `generate`, token for token, whatever goes on around them."""

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from byollm.engine import Engine, SamplingParams
from byollm.modeling import Decoder
from tests.engine.conftest import FAMILIES, VOCAB
from tests.engine.support import collect, run

FamilyModel = Callable[[str], tuple[Any, Decoder]]


def generate(reference: Any, prompt: list[int], tokens: int) -> list[int]:
    out = reference.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


def workload(count: int) -> list[tuple[list[int], int]]:
    """Prompts of mixed lengths, some over several chunks, and the lengths of their answers."""
    draw = random.Random(count)
    lengths = [draw.choice([1, 3, 9, 15, 16, 17, 30, 45, 64, 90]) for _ in range(count)]
    return [
        ([draw.randrange(VOCAB) for _ in range(length)], draw.choice([1, 2, 7, 20, 50])) for length in lengths
    ]


@pytest.fixture(scope="module")
def answers(family_model: FamilyModel) -> Callable[[str], list[list[int]]]:
    @cache
    def compute(family: str) -> list[list[int]]:
        reference, _ = family_model(family)
        return [generate(reference, prompt, tokens) for prompt, tokens in workload(32)]

    return compute


@pytest.mark.parametrize("family", FAMILIES)
def test_alone(
    family: str, family_model: FamilyModel, make_engine: Callable[..., Engine], answers: Callable[..., Any]
) -> None:
    _, decoder = family_model(family)
    engine = make_engine(model=decoder, max_batch_tokens=20)
    for (prompt, tokens), expected in list(zip(workload(32), answers(family), strict=True))[:8]:
        engine.add_request("a", prompt, SamplingParams(temperature=0, max_tokens=tokens))
        assert run(engine)["a", 0].token_ids == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_among_31_neighbours_with_preemptions(
    family: str, family_model: FamilyModel, make_engine: Callable[..., Engine], answers: Callable[..., Any]
) -> None:
    """All at once and in a cache too small for them, with arrivals between the steps."""
    _, decoder = family_model(family)
    engine = make_engine(model=decoder, cache_blocks=14, max_running=16, max_batch_tokens=40)
    merged: dict[Any, Any] = {}
    for name, (prompt, tokens) in enumerate(workload(32)):
        engine.add_request(str(name), prompt, SamplingParams(temperature=0, max_tokens=tokens))
        if name % 4 == 3:
            collect(merged, engine.step())
            engine.scheduler.check_invariants()
    while engine.has_unfinished():
        collect(merged, engine.step())
        engine.scheduler.check_invariants()
    assert engine.stats().preemptions > 0
    assert [merged[str(name), 0].token_ids for name in range(32)] == answers(family)
    assert engine.stats().free_blocks == 14
