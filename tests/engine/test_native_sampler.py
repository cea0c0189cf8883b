import pytest
import torch

from byollm.engine import native_sampler
from byollm.engine.request import Request
from byollm.engine.sampler import choose_with_torch
from byollm.kernels.cpu import load_library
from tests.engine.support import make_request, needs_kernels

library = load_library()
pytestmark = needs_kernels
WAYS = [
    {"temperature": 0},
    {"temperature": 1e-9},
    {"temperature": 0.7},
    {"temperature": 2.0},
    {"top_k": 1},
    {"top_k": 40, "temperature": 0.8},
    {"top_p": 0.9},
    {"top_p": 0.95, "temperature": 0.7},
    {"top_p": 0.999, "temperature": 1.9},
    {"top_p": 1e-6},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"top_k": 30, "top_p": 0.8, "min_p": 0.02, "temperature": 1.3},
]


def both(logits: torch.Tensor, requests: list[Request]) -> tuple[list[int], list[int]]:
    assert library is not None
    positions = [len(request.tokens) for request in requests]
    ours = native_sampler.choose(library, logits, requests, positions)
    return ours, choose_with_torch(logits.clone(), requests, positions)


@pytest.mark.parametrize("vocab", [3, 131, 1000, 8192])
@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
def test_choices_are_those_of_torch(vocab: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(vocab)
    for seed in range(12):
        requests = [make_request(prompt=[1], seed=seed, **way) for way in WAYS]
        logits = spread * torch.randn(len(WAYS), vocab, generator=generator)
        ours, theirs = both(logits, requests)
        assert ours == theirs


@pytest.mark.parametrize("way", WAYS)
def test_equals_are_ordered_by_id_and_what_is_forbidden_never_comes(way: dict[str, float]) -> None:
    logits = torch.full((1, 300), float("-inf"))
    logits[0, 100:140] = 1.5
    for seed in range(30):
        ours, theirs = both(logits, [make_request(prompt=[1], seed=seed, **way)])
        assert ours == theirs
        assert 100 <= ours[0] < 140


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 17, 130])
def test_logits_that_are_not_finite_are_told(strange: float, at: int) -> None:
    logits = torch.randn(2, 131, generator=torch.Generator().manual_seed(0))
    logits[0, at] = strange
    ours, theirs = both(logits, [make_request(prompt=[1], temperature=0) for _ in range(2)])
    assert ours == theirs == [-1, logits[1].argmax()]
