"""Steps launched ahead, with a runner on the CPU that keeps its tokens to itself until they are collected."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from byollm.engine import Engine, Output, SamplingParams
from byollm.engine.engine import make_runner
from byollm.engine.kv_cache import KVCache
from byollm.engine.model_runner import ModelRunner
from byollm.engine.request import UNREAD, Request
from byollm.engine.sampler import choose_with_torch
from byollm.engine.scheduler import Chunk
from byollm.modeling import Decoder, Tokenizer
from byollm.settings.engine import EngineSettings
from tests.engine.conftest import make_decoder
from tests.engine.support import Oracle, collect, run

MakeEngine = Callable[..., Engine]
PROMPT = [5, 9, 40, 7]
POISON = 299


class Tokens:
    """Chosen tokens that have yet to be read."""

    def __init__(self, runner: "AheadRunner", tokens: list[int]) -> None:
        self._runner, self._tokens = runner, tokens

    def collect(self) -> list[int]:
        self._runner.under_way -= 1
        if self._runner.lost_tokens:
            self._runner.lost_tokens -= 1
            raise RuntimeError("the device lost them")
        return self._tokens


class AheadRunner(ModelRunner):
    """Feeds the tokens it chose last to the step submitted next, as a GPU does."""

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        super().__init__(decoder, cache)
        self.under_way = self.most_under_way = self.submitted = self.lost_tokens = self.refused = 0
        self._last: dict[Request, int] = {}

    def submit(self, chunks: Sequence[Chunk]) -> Tokens:
        if self.refused:
            self.refused -= 1
            raise RuntimeError("not now")
        requests = [chunk.request for chunk in chunks if chunk.rows]
        unread = [chunk.request for chunk in chunks if chunk.tokens[-1] == UNREAD]
        for request in unread:
            request.tokens[-1] = max(0, self._last[request])
        try:
            logits = self.run(chunks)
        finally:
            for request in unread:
                request.tokens[-1] = UNREAD
        tokens = choose_with_torch(logits, requests, [chunk.end for chunk in chunks if chunk.rows])
        self._last = dict(zip(requests, tokens, strict=True))
        self.submitted += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return Tokens(self, tokens)


@pytest.fixture
def make_ahead(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> MakeEngine:
    """An engine whose runner launches ahead."""

    def runner(decoder: Decoder, blocks: int, settings: EngineSettings) -> AheadRunner:
        return AheadRunner(decoder, KVCache(decoder.config, blocks, decoder.dtype, decoder.device))

    def make(*args: Any, **changes: Any) -> Engine:
        monkeypatch.setattr("byollm.engine.engine.make_runner", runner)
        try:
            return make_engine(*args, **changes)
        finally:
            monkeypatch.setattr("byollm.engine.engine.make_runner", make_runner)

    return make


def ask(engine: Engine, count: int = 8) -> None:
    """Calls of many kinds, all plain."""
    for i in range(count):
        params = SamplingParams(
            max_tokens=3 + 5 * i % 17, seed=i, temperature=i % 3 / 2, top_p=1 - i % 2 / 10, n=1 + i % 2
        )
        engine.add_request(str(i), list(range(i, 4 + 7 * i)), params)


def seen(outputs: dict[tuple[str, int], Output]) -> dict[Any, Any]:
    return {key: (o.token_ids, o.text, o.finish_reason, o.completion_tokens) for key, o in outputs.items()}


def test_answers_are_those_of_steps_that_wait(
    make_engine: MakeEngine, make_ahead: MakeEngine, tokenizer: Tokenizer
) -> None:
    plain, ahead = make_engine(tokenizer, kernels="torch"), make_ahead(tokenizer)
    for engine in (plain, ahead):
        ask(engine)
    assert seen(run(ahead)) == seen(run(plain))
    assert ahead.runner.most_under_way == 2
    assert ahead.stats().free_blocks == 64
    counts = [(s.prompt_tokens_total, s.generation_tokens_total) for s in (ahead.stats(), plain.stats())]
    assert counts[0] == counts[1]


def test_next_step_is_launched_before_tokens_are_read(make_ahead: MakeEngine) -> None:
    engine = make_ahead()
    engine.add_request("a", PROMPT, SamplingParams(max_tokens=5, temperature=0))
    counts = []
    while engine.has_unfinished():
        counts.append([output.completion_tokens for output in engine.step()])
    assert counts == [[], [1], [2], [3], [4], [5]]
    assert engine.runner.submitted == 5  # that the fifth is the last is known beforehand


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_are_read_before_the_next_step_where_a_draft_promises_more(
    make_engine: MakeEngine, make_ahead: MakeEngine, temperature: float
) -> None:
    prompts = [PROMPT * (3 + i) for i in range(4)]
    plain, ahead = (
        make_engine(kernels="torch", speculative="off", cache_blocks=14),
        make_ahead(cache_blocks=14),
    )
    for engine in (plain, ahead):
        for i, prompt in enumerate(prompts):
            params = SamplingParams(max_tokens=30 + 5 * i, temperature=temperature, seed=i)
            engine.add_request(str(i), prompt, params)
    expected = run(plain)
    # Of two answers something is known, beyond their beginning and not to their end.
    told = Oracle([prompts[i] + expected[str(i), 0].token_ids[: 24 + i] for i in (1, 3)])
    ahead._drafter = told
    assert seen(run(ahead)) == seen(expected)
    assert told.drafted > told.right > 10
    assert ahead.runner.submitted > 10
    assert ahead.runner.most_under_way == 2
    assert ahead.stats().free_blocks == 14


def test_text_that_repeats_itself_is_guessed_behind_tokens_that_are_unread(
    make_engine: MakeEngine, make_ahead: MakeEngine
) -> None:
    params = SamplingParams(max_tokens=100, temperature=0)
    plain, ahead = make_engine(kernels="torch", speculative="off"), make_ahead(speculative_match=2)
    for engine in (plain, ahead):
        engine.add_request("a", PROMPT, params)
    assert seen(run(ahead)) == seen(run(plain))
    stats = ahead.stats()
    assert stats.accepted_tokens_total > 20
    assert ahead.runner.submitted > 5
    assert ahead.runner.most_under_way == 2


def test_row_of_a_sequence_that_had_ended_is_dropped(
    make_engine: MakeEngine, make_ahead: MakeEngine, tokenizer: Tokenizer
) -> None:
    params = SamplingParams(max_tokens=30, temperature=0)
    plain, ahead = make_engine(tokenizer), make_ahead(tokenizer)
    plain.add_request("a", PROMPT, params)
    tokens = run(plain)["a", 0].token_ids
    stop = SamplingParams(max_tokens=30, temperature=0, stop_token_ids=(tokens[4],))
    ahead.add_request("a", PROMPT, stop)
    ahead.add_request("b", PROMPT, params)
    outputs = run(ahead)
    assert outputs["a", 0].token_ids == tokens[: tokens.index(tokens[4]) + 1]
    assert outputs["a", 0].stop_reason == tokens[4]
    assert outputs["b", 0].token_ids == tokens


def test_aborted_sequence_is_forgotten_while_its_step_is_under_way(make_ahead: MakeEngine) -> None:
    engine = make_ahead()
    for name in "ab":
        engine.add_request(name, PROMPT, SamplingParams(max_tokens=8, temperature=0))
    outputs: dict[Any, Output] = {}
    for _ in range(3):
        collect(outputs, engine.step())
    (ended,) = engine.abort("a")
    assert (ended.finish_reason, ended.completion_tokens) == ("abort", 2)
    assert outputs["a", 0].completion_tokens == 2
    engine.add_request("a", PROMPT, SamplingParams(max_tokens=3, temperature=0))  # the id is free again
    again = run(engine)
    assert again["b", 0].finish_reason == "length"
    assert outputs["b", 0].token_ids + again["b", 0].token_ids == answers(engine, 8)
    assert again["a", 0].token_ids == answers(engine, 3)


def answers(engine: Engine, count: int) -> list[int]:
    engine.add_request("only", PROMPT, SamplingParams(max_tokens=count, temperature=0))
    return run(engine)["only", 0].token_ids


def test_all_may_be_aborted_at_any_time(make_ahead: MakeEngine) -> None:
    for steps in range(6):
        engine = make_ahead()
        ask(engine)
        for _ in range(steps):
            engine.step()
        assert all(output.finish_reason == "abort" for output in engine.abort_all())
        engine.scheduler.check_invariants()
        assert engine.stats().free_blocks == 64
        assert len(answers(engine, 3)) == 3


def test_nobody_is_preempted_while_a_token_is_unread(make_engine: MakeEngine, make_ahead: MakeEngine) -> None:
    engines = (
        make_engine(cache_blocks=12, max_batch_tokens=10),
        make_ahead(cache_blocks=12, max_batch_tokens=10),
    )
    outputs = []
    for engine in engines:
        for i in range(8):
            engine.add_request(str(i), list(range(i, i + 9)), SamplingParams(max_tokens=50, seed=i))
        merged: dict[Any, Output] = {}
        while engine.has_unfinished():
            collect(merged, engine.step())
            engine.scheduler.check_invariants()
            assert not any(UNREAD in request.tokens for request in engine.scheduler.waiting)
        assert engine.stats().preemptions > 0
        outputs.append(seen(merged))
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    "params", [{"logprobs": 2}, {"presence_penalty": 1.0}, {"logit_bias": {3: 2.0}}], ids=str
)
def test_what_the_host_has_to_choose_waits_for_the_tokens(
    make_engine: MakeEngine, make_ahead: MakeEngine, params: dict[str, Any]
) -> None:
    results = []
    for engine in (make_engine(), make_ahead()):
        ask(engine, 4)
        merged: dict[Any, Output] = {}
        for _ in range(3):
            collect(merged, engine.step())
        engine.add_request("special", PROMPT, SamplingParams(max_tokens=4, seed=1, **params))
        while engine.has_unfinished():
            collect(merged, engine.step())
        results.append(seen(merged))
    assert results[0] == results[1]
    assert engine.runner.submitted > 3


def test_n_answers_share_the_prompt(make_ahead: MakeEngine) -> None:
    engine = make_ahead()
    engine.add_request("a", list(range(40)), SamplingParams(max_tokens=4, n=3, seed=1))
    outputs = run(engine)
    assert sorted(output.cached_tokens for output in outputs.values()) == [0, 32, 32]


def test_blocks_are_published_only_as_far_as_they_are_proved(make_ahead: MakeEngine) -> None:
    engine = make_ahead()
    engine.add_request("a", list(range(14)), SamplingParams(max_tokens=6, temperature=0))
    while engine.has_unfinished():
        engine.step()
        for request in engine.scheduler.running:
            read = len(request.tokens) - (request.tokens[-1] == UNREAD)
            assert request.published * 16 <= max(0, read - 1)


def test_sequence_of_numbers_that_are_not_finite_fails_alone(make_ahead: MakeEngine) -> None:
    model = make_decoder(tie_embeddings=False)
    with torch.no_grad():
        model.embed_tokens.weight[POISON] = torch.nan
    engine = make_ahead(model=model)
    expected = answers(engine, 12)
    engine.add_request("good", PROMPT, SamplingParams(max_tokens=12, temperature=0))
    outputs: dict[Any, Output] = {}
    collect(outputs, engine.step())
    engine.add_request("bad", [*PROMPT, POISON], SamplingParams(max_tokens=12, temperature=0))
    engine.add_request("later", PROMPT, SamplingParams(max_tokens=12, temperature=0))
    while engine.has_unfinished():
        collect(outputs, engine.step())
        engine.scheduler.check_invariants()
    assert outputs["bad", 0].error == "the model gave numbers that are not finite"
    assert outputs["good", 0].token_ids == outputs["later", 0].token_ids == expected
    assert not any(layer.values.isnan().any() for layer in engine.runner.cache.layers)


@pytest.mark.parametrize("fault", ["refused", "lost_tokens"])
@pytest.mark.parametrize("times", [1, 2])
def test_step_that_cannot_be_launched_or_read_is_computed_again(
    make_engine: MakeEngine, make_ahead: MakeEngine, fault: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    plain, ahead = make_engine(), make_ahead()
    for engine in (plain, ahead):
        ask(engine)
    expected = seen(run(plain))
    merged: dict[Any, Output] = {}
    for _ in range(3):
        collect(merged, ahead.step())
    setattr(ahead.runner, fault, times)
    with caplog.at_level(logging.ERROR):
        while ahead.has_unfinished():
            collect(merged, ahead.step())
            ahead.scheduler.check_invariants()
    assert seen(merged) == expected
    assert "could not be launched" in caplog.text or "it is computed again" in caplog.text


class Explosive(Decoder):
    """A model that cannot bear one token."""

    def forward(self, tokens: Tensor, positions: Tensor, attend: Any = None) -> Tensor:
        if (tokens == POISON).any():
            raise RuntimeError("it exploded")
        return super().forward(tokens, positions, attend)


def test_sequence_that_raises_fails_alone(make_ahead: MakeEngine, decoder: Decoder) -> None:
    explosive = Explosive(decoder.config)
    explosive.load_state_dict(decoder.state_dict())
    engine = make_ahead(model=explosive)
    expected = answers(engine, 12)
    asked = SamplingParams(max_tokens=12, temperature=0)
    engine.add_request("a", PROMPT, asked)
    outputs: dict[Any, Output] = {}
    for _ in range(2):
        collect(outputs, engine.step())
    for name, prompt in {"bad": [POISON], "b": PROMPT}.items():
        engine.add_request(name, prompt, asked)
    while engine.has_unfinished():
        collect(outputs, engine.step())
        engine.scheduler.check_invariants()
    assert outputs["bad", 0].finish_reason == "error"
    assert outputs["a", 0].token_ids == outputs["b", 0].token_ids == expected
    assert engine.stats().free_blocks == 64


def test_step_under_way_is_forgotten_with_all_that_runs(make_ahead: MakeEngine) -> None:
    engine = make_ahead()
    ask(engine)
    for _ in range(3):
        engine.step()
    failed = engine.fail_running(RuntimeError("broken"))
    assert {output.finish_reason for output in failed} == {"error"}
    assert all(o.finish_reason == "length" for o in run(engine).values())  # those that had waited
    assert len(answers(engine, 4)) == 4
