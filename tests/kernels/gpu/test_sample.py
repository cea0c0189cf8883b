"""Sampling in Triton against the sampler, token for token."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from byollm.engine import SamplingParams
from byollm.engine.sampler import choose_with_torch
from byollm.kernels.gpu.sample import sample
from byollm.kernels.gpu.tuning import key, using
from tests.kernels.gpu.support import FEW

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
FRACTIONS = ("temperature", "top_p", "min_p")
FIELDS = ("temperature", "top_k", "top_p", "min_p")


def check(logits: Tensor, params: list[SamplingParams], seed: int = 3, position: int = 7) -> None:
    """Compare the tokens of rows that differ in parameters, seeds and positions."""
    seeds = [(seed * 0x9E3779B97F4A7C15 + n) % (1 << 64) for n in range(len(params))]
    positions = [position + 1000 * n for n in range(len(params))]
    requests = [SimpleNamespace(params=p, seed=s) for p, s in zip(params, seeds, strict=True)]
    finite = logits.amax(-1).isfinite()
    chosen = choose_with_torch(logits.where(finite[:, None], 0), cast(Any, requests), positions)
    expected = [token if ok else -1 for token, ok in zip(chosen, finite.tolist(), strict=True)]
    numbers = [[getattr(p, name) for p in params] for name in FIELDS]
    numbers += [[s - (s >> 63 << 64) for s in seeds], positions]
    kinds = [torch.float64 if name in FRACTIONS else torch.int64 for name in (*FIELDS, "seed", "position")]
    actual = sample(
        logits, *(torch.tensor(x, dtype=t, device=logits.device) for x, t in zip(numbers, kinds, strict=True))
    )
    assert actual.tolist() == expected


def scores(device: torch.device, rows: int, vocab: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)).to(device)


KINDS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=1e-9),
    SamplingParams(top_k=5),
    SamplingParams(top_k=1, temperature=2),
    SamplingParams(top_p=0.9),
    SamplingParams(top_p=0.0),
    SamplingParams(min_p=0.05),
    SamplingParams(top_k=40, top_p=0.8, min_p=0.02, temperature=1.5),
    SamplingParams(top_k=10_000),
    SamplingParams(top_p=1 - 1e-12, temperature=1e-50),  # float32 would take them for 1 and 0
]


@pytest.mark.parametrize("vocab", [2, 500])
def test_requests_of_every_kind_in_one_batch(device: torch.device, vocab: int) -> None:
    check(scores(device, len(KINDS), vocab), KINDS)


def test_vocabulary_of_several_chunks(device: torch.device) -> None:
    params = KINDS[:2] + KINDS[5:6] + KINDS[8:9]
    with using({key("sample", 4, 700): {"CHUNK": 128, "num_warps": 4}}):
        check(scores(device, len(params), 700), params)


@given(
    vocab=st.integers(1, 200),
    spread=st.sampled_from([0.0, 0.3, 10.0]),
    temperature=st.sampled_from([0.1, 1.0, 5.0]),
    top_k=st.sampled_from([0, 1, 3, 50, 300]),
    top_p=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    position=st.integers(0, 10**6),
)
@FEW
def test_any_parameters(
    device: torch.device,
    vocab: int,
    spread: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    seed: int,
    position: int,
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    check(spread * scores(device, 1, vocab, seed % 97), [params], seed, position)


def test_ties_go_to_the_lower_token(device: torch.device) -> None:
    logits = torch.zeros(8, 90, device=device)
    logits[:, ::7] = 1
    check(logits, [KINDS[0], KINDS[1], *KINDS[3:4] * 3, *KINDS[5:6] * 3])


def test_rows_that_are_no_numbers_give_no_token(device: torch.device) -> None:
    logits = scores(device, 5, 70)
    logits[0, 5], logits[1, 69], logits[2] = float("nan"), float("inf"), float("-inf")
    logits[3, 3:] = float("-inf")  # as a grammar masks them
    params = [KINDS[5], KINDS[0], KINDS[1], KINDS[3], KINDS[1]]
    check(logits, params)
