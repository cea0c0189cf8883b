"""Answers are the same with the prefix cache and without it, and what fails leaves nothing in it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from byollm.engine import Engine, Output, SamplingParams
from byollm.modeling import Decoder
from tests.engine.conftest import FAMILIES, make_decoder
from tests.engine.support import collect, run

MakeEngine = Callable[..., Engine]
FamilyModel = Callable[[str], tuple[Any, Decoder]]
SYSTEM = [(7 * i) % 290 for i in range(50)]
POISON = 299


def ask(engine: Engine, name: str, prompt: list[int], salt: str = "", **params: Any) -> Output:
    asked = SamplingParams(**({"max_tokens": 20, "temperature": 0} | params))
    engine.add_request(name, prompt, asked, salt)
    return run(engine)[name, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_chat_of_several_turns_is_the_same_token_for_token(
    family: str, family_model: FamilyModel, make_engine: MakeEngine
) -> None:
    """Sliding windows too: mistral's is 24 tokens here, shorter than what is shared."""
    _, decoder = family_model(family)
    plain, cached = (make_engine(model=decoder, prefix_caching=on) for on in (False, True))
    chat, seen = list(SYSTEM), []
    for turn in range(4):
        answers = [ask(engine, str(turn), chat) for engine in (plain, cached)]
        assert answers[0].token_ids == answers[1].token_ids
        assert answers[0].cached_tokens == 0
        seen.append(answers[1].cached_tokens)
        chat += [*answers[1].token_ids, 3 + turn, 5, 8]
    # All full blocks of what the turn before computed, which is all but its last token.
    assert seen == [0, 64, 80, 112]
    stats = cached.stats()
    assert (stats.prefix_queries_total, stats.prefix_hits_total) == (50 + 73 + 96 + 119, sum(seen))
    assert plain.stats().prefix_hits_total == 0


@pytest.mark.parametrize("params", [{"temperature": 0}, {"seed": 5, "top_p": 0.9}], ids=str)
def test_crowd_with_one_beginning_in_a_small_cache_answers_as_without(
    make_engine: MakeEngine, params: dict[str, Any]
) -> None:
    """Sharing, eviction and preemption at once."""
    engines = [make_engine(prefix_caching=on, cache_blocks=14, max_batch_tokens=30) for on in (False, True)]
    answers = []
    for engine in engines:
        merged: dict[Any, Output] = {}
        for number in range(12):
            prompt = SYSTEM[: 20 + 5 * (number % 5)] + [number % 3] * (number % 4)
            engine.add_request(str(number), prompt, SamplingParams(max_tokens=40, **params))
            if number % 3 == 2:
                collect(merged, engine.step())
        while engine.has_unfinished():
            collect(merged, engine.step())
            engine.scheduler.check_invariants()
        assert engine.stats().free_blocks == 14
        assert engine.stats().preemptions > 0
        answers.append({key: output.token_ids for key, output in merged.items()})
    assert answers[0] == answers[1]
    assert engines[1].stats().prefix_hits_total > 200


def test_siblings_share_the_prompt(make_engine: MakeEngine) -> None:
    plain, cached = make_engine(prefix_caching=False), make_engine()
    outputs = []
    for engine in (plain, cached):
        engine.add_request("a", SYSTEM, SamplingParams(max_tokens=10, seed=3, n=4))
        merged: dict[Any, Output] = {}
        collect(merged, engine.step())
        collect(merged, engine.step())
        if engine is cached:
            assert engine.stats().free_blocks == 64 - 3 - 4
        while engine.has_unfinished():
            collect(merged, engine.step())
        outputs.append(merged)
    assert [outputs[1]["a", i].cached_tokens for i in range(4)] == [0, 48, 48, 48]
    assert {key: output.token_ids for key, output in outputs[0].items()} == {
        key: output.token_ids for key, output in outputs[1].items()
    }


def test_salts_do_not_meet(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert ask(engine, "a", SYSTEM, "one").cached_tokens == 0
    assert ask(engine, "b", SYSTEM, "two").cached_tokens == 0
    assert ask(engine, "c", SYSTEM, "one").cached_tokens == 48


def test_aborted_request_is_found(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add_request("a", SYSTEM, SamplingParams(temperature=0))
    engine.step()
    engine.abort("a")
    assert ask(engine, "b", SYSTEM).cached_tokens == 48


def test_request_that_fails_leaves_nothing_that_others_find(make_engine: MakeEngine) -> None:
    sick = make_decoder(tie_embeddings=False)
    with torch.no_grad():
        sick.embed_tokens.weight[POISON] = torch.nan
    engine = make_engine(model=sick, cache_blocks=16)
    fine: dict[str, Any] = {"logit_bias": {POISON: -100.0}}
    expected = ask(make_engine(model=sick), "alone", SYSTEM, **fine).token_ids
    engine.add_request("good", SYSTEM, SamplingParams(max_tokens=30, temperature=0, **fine))
    outputs: dict[Any, Output] = {}
    collect(outputs, engine.step())
    bad = [*SYSTEM[:40], POISON, *range(40)]
    for name in ("bad", "same"):  # of several chunks; the second finds nothing of the first
        engine.add_request(name, bad, SamplingParams(temperature=0))
    while engine.has_unfinished():
        collect(outputs, engine.step())
        engine.scheduler.check_invariants()
    assert [outputs[name, 0].finish_reason for name in ("bad", "same")] == ["error", "error"]
    assert outputs["good", 0].token_ids[:20] == expected  # it shared two blocks with them
    assert ask(engine, "later", SYSTEM, **fine).token_ids == expected
    for salt in "xyz":  # share nothing, and so come to hold every block of the cache
        engine.add_request(salt, SYSTEM, SamplingParams(max_tokens=20, temperature=0, **fine), salt)
    assert [output.token_ids for output in run(engine).values()] == [expected] * 3
