"""Sampling against plain references, and against the exact distributions."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from byollm.engine import SamplingParams, TokenLogprobs
from byollm.engine.sampler import block_size, choose_with_torch, draw_filtered, draw_whole, sample, to_weights
from tests.engine.support import make_request


def kept_by_definition(logits: Sequence[float], params: Any) -> dict[int, float]:
    """The probabilities of the tokens that remain, in plain Python: temperature, top_k, top_p, min_p."""
    best = max(logits)
    weights = [math.exp((logit - best) / params.temperature) for logit in logits]
    order = sorted(range(len(logits)), key=lambda i: (-weights[i], i))
    if params.top_k:
        order = order[: params.top_k]
    mass = sum(weights[i] for i in order)
    if params.top_p < 1:
        kept, reached = [], 0.0
        for i in order:
            if kept and reached >= params.top_p * mass:
                break
            kept.append(i)
            reached += weights[i]
        order = kept
    order = [i for i in order if weights[i] >= params.min_p]
    total = sum(weights[i] for i in order)
    return {i: weights[i] / total for i in order}


def drawn(logits: Tensor, count: int, **params: Any) -> Counter[int]:
    """Draw `count` tokens from one row of logits, each with its own seed."""
    requests = [make_request("a", [1], seed=seed, **params) for seed in range(count)]
    out: Counter[int] = Counter()
    for start in range(0, count, 500):
        part = requests[start : start + 500]
        out.update(s.token_id for s in sample(logits.repeat(len(part), 1), part) if s)
    return out


def check_chi_square(counts: Counter[int], expected: dict[int, float]) -> None:
    """Compare counts with probabilities; rare tokens are pooled. Five standard deviations are allowed."""
    assert set(counts) <= set(expected)
    n = counts.total()
    common = {i: p for i, p in expected.items() if p * n >= 5}
    statistic = sum((counts[i] - p * n) ** 2 / (p * n) for i, p in common.items())
    freedom = len(common) - 1
    rest = n * (1 - sum(common.values()))
    if rest >= 1:
        statistic += (n - sum(counts[i] for i in common) - rest) ** 2 / rest
        freedom += 1
    assert statistic < freedom + 5 * math.sqrt(2 * max(freedom, 1))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 2.0},
        {"top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.02, "temperature": 1.3},
    ],
    ids=str,
)
def test_draws_follow_the_exact_distribution(params: dict[str, Any]) -> None:
    logits = torch.randn(1, 200, generator=torch.Generator().manual_seed(3)) * 2
    reference = make_request("a", [1], **params).params
    check_chi_square(drawn(logits, 6000, **params), kept_by_definition(logits[0].tolist(), reference))


def test_draws_along_positions_follow_the_distribution_too() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    requests = [make_request("a", position, seed=11) for position in range(1, 4000)]
    counts = Counter(s.token_id for s in sample(logits.repeat(len(requests), 1), requests) if s)
    check_chi_square(counts, kept_by_definition(logits[0].tolist(), requests[0].params))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_kept_tokens_and_their_shares_are_exactly_those_of_the_definition(data: st.DataObject) -> None:
    """Draw with the middle of each token's share of [0, 1), and with the very end of it."""
    vocab = data.draw(st.sampled_from([5, 40, 100, 1500]))
    levels = data.draw(st.sampled_from([3, 10, 10_000]))  # few levels make many ties
    spread = data.draw(st.sampled_from([0.5, 3.0, 12.0]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    row = torch.randint(0, levels, (vocab,), generator=generator) / levels * spread
    params = SamplingParams(
        temperature=data.draw(st.sampled_from([0.5, 1.0, 1.7])),
        top_k=data.draw(st.sampled_from([0, 1, 3, 63, 64, 65, 200, 5000])),
        top_p=data.draw(st.sampled_from([0.0, 0.3, 0.9, 0.999, 1.0])),
        min_p=data.draw(st.sampled_from([0.0, 0.05, 1.0])),
    )
    assume(params.filtered and not on_a_border(row.tolist(), params))
    kept = kept_by_definition(row.tolist(), params)
    ends = list(accumulate(kept.values()))
    middles = {
        token: end - share / 2
        for (token, share), end in zip(kept.items(), ends, strict=True)
        if share > 1e-5  # wide enough that rounding does not reach its middle
    }
    numbers = [*middles.values(), 1 - 2**-53]
    weights = to_weights(row[None], [params]).expand(len(numbers), -1)
    tokens = draw_filtered(
        weights, [params] * len(numbers), torch.tensor(numbers, dtype=torch.float64)[:, None]
    )
    assert tokens[:-1].tolist() == list(middles)
    assert int(tokens[-1]) == list(kept)[-1]


@pytest.mark.parametrize("vocab", [1, 2, 3, 16, 17, 300, 1000])
def test_draw_over_the_whole_vocabulary_reaches_every_token_by_its_share(vocab: int) -> None:
    """A grid of pairs of numbers: the share of the grid that falls to a token is its probability."""
    logits = torch.randn(1, vocab, generator=torch.Generator().manual_seed(vocab))
    weights = to_weights(logits, [SamplingParams()])
    size = block_size(vocab)
    grid = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    blocks = draw_whole(weights.expand(200, -1), torch.stack([grid, grid], 1)) // size
    for block in range(-(-vocab // size)):
        share = float(weights[0, block * size : (block + 1) * size].sum() / weights.sum())
        assert float((blocks == block).double().mean()) == pytest.approx(share, abs=1.01 / 200)
        inside = torch.zeros_like(weights)
        inside[0, block * size : (block + 1) * size] = weights[0, block * size : (block + 1) * size]
        tokens = draw_whole(inside.expand(200, -1), torch.stack([grid, grid], 1))
        for token in range(block * size, min((block + 1) * size, vocab)):
            expected = float(inside[0, token] / inside.sum())
            assert float((tokens == token).double().mean()) == pytest.approx(expected, abs=1.01 / 200)


def test_token_without_weight_is_never_drawn() -> None:
    weights = torch.zeros(3, 40)
    weights[:, 17] = 1
    numbers = torch.tensor([[0.0, 0.0], [0.5, 0.5], [1 - 2**-53, 1 - 2**-53]], dtype=torch.float64)
    assert draw_whole(weights, numbers).tolist() == [17, 17, 17]


def on_a_border(logits: Sequence[float], params: SamplingParams) -> bool:
    """Whether float32 rounding could put a token on either side of top_p or min_p."""
    best = max(logits)
    weights = sorted((math.exp((logit - best) / params.temperature) for logit in logits), reverse=True)
    weights = weights[: params.top_k or None]
    mass = sum(weights)
    near_top_p = any(abs(reached - params.top_p * mass) < 1e-5 * mass for reached in accumulate(weights))
    near_min_p = any(abs(weight - params.min_p) < 1e-6 for weight in weights if weight < 1)
    return (params.top_p < 1 and near_top_p) or (params.min_p > 0 and near_min_p)


def test_candidates_give_what_the_whole_vocabulary_gives() -> None:
    """A short list of the best tokens is only a short cut: with all-equal logits it must not be taken."""
    equal = torch.zeros(1, 3000)
    for top_k in (1, 63, 64, 65, 1500):
        counts = drawn(equal, 300, top_k=top_k)
        assert max(counts) < top_k, "among equals the lower ids are kept"


def test_greedy_takes_the_lowest_of_equal_tokens() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0]])
    assert [s.token_id for s in sample(logits.clone(), [make_request("a", temperature=0)]) if s] == [1]
    biased = make_request("a", temperature=0, logit_bias={0: 2.0})
    assert [s.token_id for s in sample(logits.clone(), [biased]) if s] == [0]


@pytest.mark.parametrize("temperature", [1e-9, 1e-300, 1e-3])
def test_temperature_next_to_nothing_is_greedy(temperature: float) -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)) * 1e4
    assert set(drawn(logits, 20, temperature=temperature)) == {int(logits.argmax())}
    assert set(drawn(logits, 20, temperature=temperature, top_p=0.5)) == {int(logits.argmax())}


def test_huge_temperature_is_flat() -> None:
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(0)) * 10
    check_chi_square(drawn(logits, 4000, temperature=1e30), dict.fromkeys(range(8), 1 / 8))


def test_top_p_zero_and_min_p_one_keep_the_best_token() -> None:
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    for params in ({"top_p": 0.0}, {"min_p": 1.0}, {"top_k": 1}):
        assert set(drawn(logits, 50, **params)) == {int(logits.argmax())}


def test_draw_does_not_depend_on_the_neighbours() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(40, 2000, generator=generator) * 3
    kinds: list[dict[str, Any]] = [
        {},
        {"top_k": 7},
        {"top_p": 0.8},
        {"top_k": 300, "top_p": 0.99},
        {"temperature": 0},
        {"min_p": 0.01, "presence_penalty": 1.0},
        {"temperature": 5.0, "top_p": 0.95},
        {"logprobs": 3},
    ]
    requests = [make_request(str(i), 3 + i, seed=i, **kinds[i % len(kinds)]) for i in range(40)]
    together = sample(logits.clone(), requests)
    alone = [sample(logits[i : i + 1].clone(), [request])[0] for i, request in enumerate(requests)]
    assert [s.token_id for s in together if s] == [s.token_id for s in alone if s]


def adjusted(logits: list[float], prompt: list[int], answer: list[int], **params: Any) -> int:
    request = make_request("a", prompt, temperature=0, **params)
    for token in answer:
        request.append(token)
    result = sample(torch.tensor([logits]), [request])[0]
    assert result is not None
    return result.token_id


def test_repetition_penalty_counts_prompt_and_answer_and_works_on_both_signs() -> None:
    assert adjusted([4.0, 3.0, -1.0], [0], [], repetition_penalty=2.0) == 1
    assert adjusted([4.0, 3.0, -1.0], [2], [0], repetition_penalty=2.0) == 1
    assert adjusted([-1.0, -1.5], [0], [0, 0], repetition_penalty=2.0) == 1
    assert (
        adjusted([-1.0, -1.5], [0], [0, 0], repetition_penalty=1.4) == 0
    )  # once, however often it stands there
    assert adjusted([1.0, 1.5], [0], [], repetition_penalty=0.5) == 0


def test_presence_and_frequency_penalties_count_the_answer_only() -> None:
    assert adjusted([1.0, 0.5], [0, 0], [], presence_penalty=2.0, frequency_penalty=2.0) == 0
    assert adjusted([1.0, 0.5], [1], [0], presence_penalty=0.6) == 1
    assert adjusted([1.0, 0.5], [1], [0, 0, 0], presence_penalty=0.4) == 0
    assert adjusted([1.0, 0.5], [1], [0, 0], frequency_penalty=0.2) == 0
    assert adjusted([1.0, 0.5], [1], [0, 0, 0], frequency_penalty=0.2) == 1
    assert adjusted([0.5, 1.0], [1], [0], presence_penalty=-1.0) == 0


def test_logit_bias_forbids_and_forces() -> None:
    assert adjusted([5.0, 1.0, 0.0], [0], [], logit_bias={0: -100.0}) == 1
    assert adjusted([5.0, 1.0, 0.0], [0], [], logit_bias={2: 100.0}) == 2
    assert set(drawn(torch.zeros(1, 4), 30, logit_bias={3: 100.0})) == {3}


def logprobs_of(logits: Tensor, **params: Any) -> TokenLogprobs:
    result = sample(logits.clone(), [make_request("a", [1], **params)])[0]
    assert result is not None
    assert result.logprobs is not None
    return result.logprobs


def test_logprobs_are_of_the_raw_distribution() -> None:
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(1)) * 3
    raw = logits[0].log_softmax(-1)
    best = raw.sort(descending=True)
    for params in (
        {"temperature": 0},
        {"temperature": 2.0, "seed": 5, "top_k": 3},
        {"logit_bias": {4: 100.0}},
    ):
        entry = logprobs_of(logits, logprobs=4, **params)
        assert entry.logprob == pytest.approx(float(raw[entry.token_id]), abs=1e-6)
        assert [token for token, _ in entry.top] == best.indices[:4].tolist()
        assert [value for _, value in entry.top] == pytest.approx(best.values[:4].tolist(), abs=1e-6)


def test_logprobs_of_zero_alternatives_report_the_chosen_token_only() -> None:
    assert logprobs_of(torch.zeros(1, 10), logprobs=0).top == []


def test_logprobs_are_given_to_those_who_asked() -> None:
    requests = [make_request("a", logprobs=2), make_request("b"), make_request("c", logprobs=20)]
    entries = [s.logprobs for s in sample(torch.randn(3, 12), requests) if s]
    assert [None if e is None else len(e.top) for e in entries] == [2, None, 12]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("params", [{"temperature": 0}, {}, {"top_p": 0.5}, {"logprobs": 1}], ids=str)
def test_row_that_is_not_finite_is_reported_and_spoils_no_other(bad: float, params: dict[str, Any]) -> None:
    logits = torch.zeros(3, 10)
    logits[:, 4] = 50
    logits[1, 7] = bad
    results = sample(logits, [make_request(str(i), **params) for i in range(3)])
    assert results[1] is None
    assert [s.token_id for s in results if s] == [4, 4]
    if "logprobs" not in params:
        requests = [make_request(str(i), **params) for i in range(3)]
        assert choose_with_torch(logits, requests, [1, 1, 1]) == [4, -1, 4]
