"""Drafts change how many tokens a step yields, and nothing else."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from byollm.engine import Engine, Output, SamplingParams
from byollm.engine.kv_cache import KVCache
from byollm.engine.model_runner import ModelRunner
from byollm.engine.request import Request
from byollm.modeling import Decoder, Tokenizer
from tests.engine.conftest import FAMILIES, make_decoder
from tests.engine.support import Oracle, collect, run

MakeEngine = Callable[..., Engine]
FamilyModel = Callable[[str], tuple[Any, Decoder]]
REPEATING = [5, 9, 40, 7, 31, 12] * 5
POISON = 299


def answer(engine: Engine, prompt: list[int] = REPEATING, **params: Any) -> Output:
    engine.add_request("only", prompt, SamplingParams(**({"max_tokens": 60, "temperature": 0} | params)))
    return run(engine)["only", 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_the_same_token_for_token_in_fewer_steps(
    family: str, family_model: FamilyModel, make_engine: MakeEngine
) -> None:
    _, decoder = family_model(family)
    plain, drafting = (make_engine(model=decoder, speculative=mode) for mode in ("off", "auto"))
    expected = answer(plain)
    told = Oracle([[*REPEATING, *expected.token_ids]])
    asked = make_engine(model=decoder)
    asked._drafter = told
    for engine in (drafting, asked):
        assert answer(engine).token_ids == expected.token_ids
        assert engine.stats().free_blocks == 64
    assert told.right > 10
    stats = asked.stats()
    assert stats.steps_total == plain.stats().steps_total - told.right
    assert (stats.drafts_total, stats.draft_tokens_total) == (told.drafts, told.drafted)
    assert stats.accepted_tokens_total == told.right < told.drafted


def test_repeated_text_is_guessed_and_random_text_soon_no_more(make_engine: MakeEngine) -> None:
    copying = make_engine()
    answer(copying, logit_bias={4: 100.0}, max_tokens=80)  # says the same for ever
    stats = copying.stats()
    assert stats.steps_total < 20
    assert stats.accepted_tokens_total + stats.steps_total == 80
    wild = make_engine(speculative_match=1)
    answer(wild, temperature=1.5, seed=1, max_tokens=200)
    assert 0 < wild.stats().draft_tokens_total < 40


SAMPLING: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"top_k": 5, "min_p": 0.05},
    {"presence_penalty": 1.5, "frequency_penalty": 0.3, "repetition_penalty": 1.3},
    {"temperature": 0, "frequency_penalty": 0.5, "logprobs": 2},
    {"logit_bias": {7: 3.0}, "logprobs": 0, "min_tokens": 20},
]


@pytest.mark.parametrize("params", SAMPLING, ids=str)
def test_same_seed_gives_the_same_answer_with_drafts(
    make_engine: MakeEngine, tokenizer: Tokenizer, params: dict[str, Any]
) -> None:
    """Alone and with n siblings in a small cache, with preemptions; logprobs and text too."""
    asked = SamplingParams(max_tokens=50, seed=8, n=3, **params)
    plain, drafting = (
        make_engine(tokenizer, cache_blocks=11, speculative=mode, max_batch_tokens=20)
        for mode in ("off", "auto")
    )
    plain.add_request("a", REPEATING, asked)
    expected = run(plain)
    told = Oracle([[*REPEATING, *output.token_ids] for output in expected.values()])
    drafting._drafter = told
    drafting.add_request("a", REPEATING, asked)
    outputs = run(drafting)
    assert told.right > 20
    assert drafting.stats().preemptions > 0
    for key, output in expected.items():
        got = outputs[key]
        assert got.token_ids == output.token_ids
        assert (got.text, got.finish_reason) == (output.text, output.finish_reason)
        assert (got.logprobs is None) == (output.logprobs is None)
        for mine, theirs in zip(got.logprobs or [], output.logprobs or [], strict=True):
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_tokens_drawn_behind_a_draft_follow_the_models_distribution(
    make_engine: MakeEngine, decoder: Decoder
) -> None:
    """The third token after the two most probable ones, where the second was guessed: chi squared."""
    kept = 6

    @torch.inference_mode()
    def chances(tokens: list[int]) -> dict[int, float]:
        hidden = decoder(torch.tensor(tokens), torch.arange(len(tokens)))
        best = decoder.logits(hidden[-1]).float().topk(kept)
        return dict(zip(best.indices.tolist(), best.values.softmax(-1).tolist(), strict=True))

    first = next(iter(chances(REPEATING)))
    second = next(iter(chances([*REPEATING, first])))
    expected = chances([*REPEATING, first, second])
    told = Oracle([[*REPEATING, first, second, second]], wrong=0)
    told._random.randint = lambda low, high: 1  # type: ignore[method-assign]
    engine = make_engine(max_running=32, cache_blocks=256)
    engine._drafter = told
    counts = dict.fromkeys(expected, 0)
    for seed in range(8):
        engine.add_request("a", REPEATING, SamplingParams(max_tokens=3, top_k=kept, n=128, seed=seed))
        for output in run(engine, check=False).values():
            if output.token_ids[:2] == [first, second]:
                counts[output.token_ids[2]] += 1
    total = sum(counts.values())
    assert told.right >= total > 100  # each of them was drawn from the logits behind a draft
    statistic = sum((counts[i] - total * p) ** 2 / (total * p) for i, p in expected.items())
    assert statistic < 20.5  # 5 degrees of freedom: one time in a thousand it is beyond that


def test_answer_ends_within_a_draft_as_it_would_without(
    make_engine: MakeEngine, tokenizer: Tokenizer
) -> None:
    base: dict[str, Any] = {"max_tokens": 40, "temperature": 1.0, "seed": 3}
    plain = answer(make_engine(tokenizer, speculative="off"), **base)
    ways: list[dict[str, Any]] = [
        {"stop": (plain.text[30:33],)},
        {"stop_token_ids": (plain.token_ids[17],)},
        {"max_tokens": 13},
        {"logit_bias": {0: 100.0}, "min_tokens": 14},  # end of text
    ]
    for way, reason in zip(ways, ["stop", "stop", "length", "stop"], strict=True):
        expected = answer(make_engine(tokenizer, speculative="off"), **(base | way))
        assert expected.finish_reason == reason
        engine = make_engine(tokenizer)
        engine._drafter = Oracle([[*REPEATING, *expected.token_ids, *range(9)]], wrong=0)
        got = answer(engine, **(base | way))
        assert (got.token_ids, got.text) == (expected.token_ids, expected.text)
        assert (got.finish_reason, got.stop_reason) == (reason, expected.stop_reason)
        assert engine.stats().free_blocks == 64
        assert engine.stats().accepted_tokens_total > 3


def test_crowd_with_drafts_shared_prefixes_and_preemptions_answers_as_without(
    make_engine: MakeEngine,
) -> None:
    prompts = [REPEATING[: 12 + 3 * (i % 6)] + [i % 2] * (i % 3) for i in range(10)]
    asked = [SamplingParams(max_tokens=40, temperature=0.6 * (i % 2), seed=i) for i in range(10)]
    answers: list[dict[Any, Output]] = []
    for turn in range(2):
        engine = make_engine(cache_blocks=12, max_batch_tokens=30, prefix_caching=turn == 1)
        known = answers[0].items() if turn else ()
        told = Oracle([prompts[int(name)] + output.token_ids for (name, _), output in known])
        engine._drafter = told
        merged: dict[Any, Output] = {}
        for i, (prompt, params) in enumerate(zip(prompts, asked, strict=True)):
            engine.add_request(str(i), prompt, params)
            collect(merged, engine.step())
            engine.scheduler.check_invariants()
        while engine.has_unfinished():
            collect(merged, engine.step())
            engine.scheduler.check_invariants()
        assert engine.stats().preemptions > 0
        assert engine.stats().free_blocks == 12
        answers.append(merged)
    assert told.right > 50
    assert {key: output.token_ids for key, output in answers[0].items()} == {
        key: output.token_ids for key, output in answers[1].items()
    }


class Poisoner(Oracle):
    """Puts a token into its drafts that the model cannot bear."""

    def propose(self, running: Sequence[Request]) -> dict[Request, list[int]]:
        return {
            request: [draft[0], POISON, 5] for request, draft in super().propose(running).items() if draft
        }


def test_draft_that_the_model_cannot_bear_leaves_no_trace(make_engine: MakeEngine) -> None:
    sick = make_decoder(tie_embeddings=False)
    with torch.no_grad():
        sick.embed_tokens.weight[POISON] = torch.nan
    fine: dict[str, Any] = {"logit_bias": {POISON: -100.0}}
    expected = answer(make_engine(model=sick, speculative="off"), **fine)
    engine = make_engine(model=sick, cache_blocks=6)
    told = Poisoner([[*REPEATING, *expected.token_ids]], wrong=0)
    engine._drafter = told
    for _ in range(2):
        got = answer(engine, **fine)
        assert (got.token_ids, got.finish_reason) == (expected.token_ids, "length")
    assert engine.stats().free_blocks == 6


def over_torch(engine: Engine, model: Decoder) -> Engine:
    """Have the model's own `forward` and `logits` called."""
    cache = KVCache(model.config, engine.scheduler.pool.num_blocks, torch.float32)
    engine.runner = ModelRunner(model, cache)
    return engine


class Silent(Decoder):
    """A model whose last hidden state of one token is not a number."""

    def forward(self, tokens: Tensor, positions: Tensor, attend: Any = None) -> Tensor:
        hidden: Tensor = super().forward(tokens, positions, attend).clone()
        hidden[tokens == POISON] = torch.nan
        return hidden


def test_logits_behind_a_wrong_guess_may_be_anything(make_engine: MakeEngine, decoder: Decoder) -> None:
    silent = Silent(decoder.config)
    silent.load_state_dict(decoder.state_dict())
    fine: dict[str, Any] = {"logit_bias": {POISON: -100.0}}
    expected = answer(make_engine(speculative="off"), **fine)
    engine = over_torch(make_engine(cache_blocks=6), silent)
    told = Poisoner([[*REPEATING, *expected.token_ids]], wrong=0)
    engine._drafter = told
    got = answer(engine, **fine)
    assert (got.token_ids, got.finish_reason) == (expected.token_ids, "length")
    assert told.drafted > told.right > 10


class Explosive(Decoder):
    """A model that fails at one token."""

    def forward(self, tokens: Tensor, positions: Tensor, attend: Any = None) -> Tensor:
        if (tokens == POISON).any():
            raise RuntimeError("exploded")
        return super().forward(tokens, positions, attend)


def test_request_whose_draft_makes_the_step_fail_goes_on_without(
    make_engine: MakeEngine, decoder: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    explosive = Explosive(decoder.config)
    explosive.load_state_dict(decoder.state_dict())
    fine: dict[str, Any] = {"logit_bias": {POISON: -100.0}, "max_tokens": 20}
    expected = answer(make_engine(speculative="off"), **fine)
    engine = over_torch(make_engine(), explosive)
    told = Poisoner([[*REPEATING, *expected.token_ids]], wrong=0)
    engine._drafter = told
    engine.add_request("other", [1, 2, 3], SamplingParams(max_tokens=20, temperature=0))
    with caplog.at_level(logging.ERROR):
        got = answer(engine, **fine)
    assert "exploded" in caplog.text
    assert (got.token_ids, got.finish_reason) == (expected.token_ids, "length")
    assert engine.stats().free_blocks == 64
