import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from byollm.engine import AdmissionError, Engine, Output, QueueFullError, SamplingParams
from byollm.engine.scheduler import Chunk
from byollm.modeling import Decoder, Tokenizer, save_decoder
from byollm.settings.engine import EngineSettings
from tests.engine.conftest import make_decoder, save_tokenizer
from tests.engine.support import collect, make_request, run

MakeEngine = Callable[..., Engine]
PROMPT = [5, 9, 40, 7]


def answer(engine: Engine, prompt: list[int] = PROMPT, **params: Any) -> Output:
    engine.add_request("only", prompt, SamplingParams(**({"max_tokens": 12, "temperature": 0} | params)))
    return run(engine)["only", 0]


def test_answer_comes_token_by_token(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    engine = make_engine(tokenizer)
    engine.add_request("a", PROMPT, SamplingParams(max_tokens=5, temperature=0))
    outputs = []
    while engine.has_unfinished():
        outputs += engine.step()
    assert [len(output.token_ids) for output in outputs] == [1] * 5
    assert [output.completion_tokens for output in outputs] == [1, 2, 3, 4, 5]
    assert [output.finish_reason for output in outputs] == [None] * 4 + ["length"]
    assert {output.prompt_tokens for output in outputs} == {4}
    assert engine.step() == []


def test_text_is_that_of_the_tokens(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    output = answer(make_engine(tokenizer), temperature=1.0, seed=3, max_tokens=60, ignore_eos=True)
    assert output.text == tokenizer.decode(output.token_ids)
    assert len(output.text) > 10


def test_end_of_text_ends_the_answer_and_is_not_shown(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    output = answer(make_engine(tokenizer), logit_bias={0: 100.0})
    assert (output.finish_reason, output.stop_reason) == ("stop", None)
    assert (output.token_ids, output.text, output.completion_tokens) == ([0], "", 1)


def test_end_of_text_can_be_ignored(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    output = answer(make_engine(tokenizer), logit_bias={0: 100.0}, ignore_eos=True)
    assert (output.finish_reason, output.token_ids) == ("length", [0] * 12)


def test_stop_token_ends_the_answer_and_is_named(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    plain = answer(make_engine(tokenizer))
    stop = plain.token_ids[4]
    output = answer(make_engine(tokenizer), stop_token_ids=(stop,))
    first = plain.token_ids.index(stop)
    assert (output.finish_reason, output.stop_reason) == ("stop", stop)
    assert output.token_ids == plain.token_ids[: first + 1]
    assert output.text == tokenizer.decode(plain.token_ids[:first])


def test_stop_string_ends_the_answer_before_itself(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    plain = answer(make_engine(tokenizer), max_tokens=30)
    stop = plain.text[7:11]
    engine = make_engine(tokenizer)
    output = answer(engine, max_tokens=30, stop=("nowhere", stop))
    assert (output.finish_reason, output.stop_reason) == ("stop", stop)
    assert output.text == plain.text[: plain.text.index(stop)]
    assert output.completion_tokens == len(output.token_ids) < 30
    assert engine.stats().free_blocks == 64


def test_text_held_back_is_given_out_at_the_end(make_engine: MakeEngine, tokenizer: Tokenizer) -> None:
    plain = answer(make_engine(tokenizer))
    output = answer(make_engine(tokenizer), stop=(plain.text[-1] + "\x00",))
    assert (output.text, output.finish_reason) == (plain.text, "length")


def test_without_max_tokens_the_answer_fills_the_context(make_engine: MakeEngine) -> None:
    output = answer(make_engine(), max_tokens=None)
    assert (output.completion_tokens, output.finish_reason) == (256 - 4, "length")


def test_answer_may_fill_the_whole_cache(make_engine: MakeEngine) -> None:
    engine = make_engine(cache_blocks=2)
    assert answer(engine, max_tokens=None).completion_tokens == 32 + 1 - 4
    assert engine.stats().preemptions == 0


@pytest.mark.parametrize(
    "params", [{}, {"top_p": 0.9, "temperature": 0.8}, {"presence_penalty": 1.0}], ids=str
)
def test_sampled_answer_is_the_same_alone_and_among_others(
    make_engine: MakeEngine, params: dict[str, Any]
) -> None:
    """With neighbours, chunked prompts and preemptions; the draws depend on seed and position only."""
    asked = SamplingParams(max_tokens=40, seed=12, ignore_eos=True, **params)
    alone, crowd = make_engine(), make_engine(cache_blocks=12, max_batch_tokens=10)
    prompt = list(range(30))
    alone.add_request("a", prompt, asked)
    expected = run(alone)["a", 0].token_ids
    merged: dict[Any, Output] = {}
    for i in range(8):
        if i == 5:
            crowd.add_request("a", prompt, asked)
        crowd.add_request(str(i), list(range(i, i + 9)), SamplingParams(max_tokens=50, seed=i))
        collect(merged, crowd.step())
    while crowd.has_unfinished():
        collect(merged, crowd.step())
        crowd.scheduler.check_invariants()
    assert crowd.stats().preemptions > 0
    assert merged["a", 0].token_ids == expected


def test_seed_decides_and_no_seed_differs(make_engine: MakeEngine) -> None:
    engine = make_engine()
    one, same, other, none, free = (
        answer(engine, temperature=1.0, seed=seed).token_ids for seed in (1, 1, 2, None, None)
    )
    assert one == same
    assert len({tuple(tokens) for tokens in (one, other, none, free)}) == 4


def test_n_answers_are_distinct_and_the_first_is_that_of_one(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add_request("a", PROMPT, SamplingParams(max_tokens=10, seed=4, n=3))
    outputs = run(engine)
    assert set(outputs) == {("a", 0), ("a", 1), ("a", 2)}
    assert len({tuple(output.token_ids) for output in outputs.values()}) == 3
    assert outputs["a", 0].token_ids == answer(engine, max_tokens=10, seed=4, temperature=1.0).token_ids
    assert {output.prompt_tokens for output in outputs.values()} == {4}


def test_logprobs_come_with_every_token(make_engine: MakeEngine) -> None:
    output = answer(make_engine(), logprobs=3)
    assert output.logprobs is not None
    assert [entry.token_id for entry in output.logprobs] == output.token_ids
    assert all(
        len(entry.top) == 3 and entry.top[0][0] == entry.token_id for entry in output.logprobs
    )  # greedy
    assert answer(make_engine()).logprobs is None


def test_abort_frees_the_blocks_at_once_and_gives_what_was_held_back(
    make_engine: MakeEngine, tokenizer: Tokenizer
) -> None:
    engine = make_engine(tokenizer)
    plain = answer(engine)
    engine.add_request("a", PROMPT, SamplingParams(temperature=0, stop=(plain.text + "more",), n=2))
    for _ in range(4):
        engine.step()
    assert engine.stats().free_blocks == 62
    outputs = engine.abort("a")
    assert [(output.index, output.finish_reason) for output in outputs] == [(0, "abort"), (1, "abort")]
    assert outputs[0].text
    assert plain.text.startswith(outputs[0].text)
    assert engine.stats().free_blocks == 64
    assert not engine.has_unfinished()
    assert engine.step() == []


def test_abort_of_the_unknown_does_nothing(make_engine: MakeEngine) -> None:
    assert make_engine().abort("nobody") == []


def test_abort_reaches_a_waiting_request(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1)
    engine.add_request("a", PROMPT, SamplingParams(max_tokens=3))
    engine.add_request("b", PROMPT, SamplingParams(max_tokens=3))
    engine.step()
    assert (engine.stats().running, engine.stats().waiting) == (1, 1)
    assert [output.finish_reason for output in engine.abort("b")] == ["abort"]
    assert set(run(engine)) == {("a", 0)}


def test_id_in_use_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add_request("a", PROMPT, SamplingParams())
    with pytest.raises(AdmissionError, match="'a' is running"):
        engine.add_request("a", PROMPT, SamplingParams())


def test_queue_is_bounded(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=2, max_waiting=3)
    for i in range(5):
        engine.add_request(str(i), PROMPT, SamplingParams(max_tokens=2))
    with pytest.raises(QueueFullError, match="1 more sequences asked for while 5 of at most 5"):
        engine.add_request("more", PROMPT, SamplingParams(max_tokens=2))
    assert len(run(engine)) == 5
    engine.add_request("more", PROMPT, SamplingParams(max_tokens=2))


def test_ten_thousand_may_wait(make_engine: MakeEngine) -> None:
    engine = make_engine(max_waiting=10_000, max_running=64, cache_blocks=128)
    params = SamplingParams(max_tokens=1)
    for i in range(10_000):
        engine.add_request(str(i), PROMPT, params)
    engine.step()
    stats = engine.stats()
    assert (stats.waiting, stats.running) == (
        10_000 - 16,
        0,
    )  # 64 tokens a step: 16 prompts, each done with one token
    for i in range(10_000):
        engine.abort(str(i))
    assert not engine.has_unfinished()


def test_what_can_never_fit_leaves_no_trace(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(AdmissionError, match="can never fit: prompt of 4 tokens, max_tokens 1000"):
        engine.add_request("a", PROMPT, SamplingParams(max_tokens=1000))
    assert not engine.has_unfinished()


def test_stats_count_tokens(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add_request("a", PROMPT, SamplingParams(max_tokens=5, n=2))
    run(engine)
    stats = engine.stats()
    assert (stats.prompt_tokens_total, stats.generation_tokens_total, stats.steps_total) == (8, 10, 5)
    assert (stats.running, stats.waiting, stats.free_blocks, stats.total_blocks) == (0, 0, 64, 64)
    assert stats.last_step_seconds > 0


def test_only_rows_that_sample_get_logits_and_a_chunk_can_be_run_again(make_engine: MakeEngine) -> None:
    engine = make_engine()
    half, whole = make_request("half", 20), make_request("whole", 5)
    half.blocks, whole.blocks = [3, 1], [0]
    chunks = [Chunk(half, 0, 12, rows=0), Chunk(whole, 0, 5)]
    first = engine.runner.run(chunks)
    keys = engine.runner.cache.layers[1].keys.clone()
    assert first.shape == (1, 300)
    assert torch.equal(engine.runner.run(chunks), first)
    assert torch.equal(engine.runner.cache.layers[1].keys, keys)
    assert engine.runner.run(chunks[:1]).shape == (0, 300)


POISON = 299


@pytest.fixture
def sick_decoder() -> Decoder:
    """A model whose embedding of one token is not a number."""
    model = make_decoder(tie_embeddings=False)
    with torch.no_grad():
        model.embed_tokens.weight[POISON] = torch.nan
    return model


def test_request_that_turns_the_model_to_nan_fails_alone(
    make_engine: MakeEngine, sick_decoder: Decoder
) -> None:
    healthy = make_engine(model=sick_decoder)
    expected = answer(healthy, logit_bias={POISON: -100.0})
    engine = make_engine(model=sick_decoder)
    asked = SamplingParams(max_tokens=12, temperature=0, logit_bias={POISON: -100.0})
    engine.add_request("good", PROMPT, asked)
    outputs: dict[Any, Output] = {}
    collect(outputs, engine.step())
    engine.add_request("bad", [*PROMPT, POISON], asked)
    engine.add_request("later", PROMPT, asked)
    while engine.has_unfinished():
        collect(outputs, engine.step())
    assert outputs["bad", 0].finish_reason == "error"
    assert outputs["bad", 0].error == "the model gave numbers that are not finite"
    assert outputs["good", 0].token_ids == outputs["later", 0].token_ids == expected.token_ids
    # Its blocks went back clean: the next to hold them is not spoilt.
    assert not any(layer.values.isnan().any() for layer in engine.runner.cache.layers)


class Explosive(Decoder):
    """A model that cannot bear one token, or, once it is `broken`, any."""

    broken = False

    def forward(self, tokens: Tensor, positions: Tensor, attend: Any = None) -> Tensor:
        if self.broken or (tokens == POISON).any():
            raise RuntimeError("/secret/path exploded")
        return super().forward(tokens, positions, attend)


def test_request_that_raises_fails_alone(
    make_engine: MakeEngine, decoder: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    explosive = Explosive(decoder.config)
    explosive.load_state_dict(decoder.state_dict())
    engine = make_engine(model=explosive)
    expected = answer(make_engine(), logit_bias={POISON: -100.0})
    asked = SamplingParams(max_tokens=12, temperature=0, logit_bias={POISON: -100.0})
    for name, prompt in {"a": PROMPT, "bad": [POISON], "b": PROMPT}.items():
        engine.add_request(name, prompt, asked)
    with caplog.at_level(logging.ERROR):
        outputs = run(engine)
    assert "exploded" in caplog.text
    assert outputs["bad", 0].finish_reason == "error"
    assert (
        outputs["bad", 0].error == "the engine failed on this request (RuntimeError); its log has the details"
    )
    assert outputs["a", 0].token_ids == outputs["b", 0].token_ids == expected.token_ids
    assert engine.stats().free_blocks == 64
    explosive.broken = True
    engine.add_request("c", PROMPT, asked)
    engine.add_request("d", PROMPT, asked)
    assert [output.finish_reason for output in engine.step()] == ["error", "error"]
    explosive.broken = False
    assert answer(engine, logit_bias={POISON: -100.0}).token_ids == expected.token_ids


def test_load_reads_a_model_directory(tmp_path: Path, decoder: Decoder, make_engine: MakeEngine) -> None:
    directory = tmp_path / "my-model"
    save_decoder(decoder, directory)
    save_tokenizer(directory)
    engine = Engine.load(
        directory, EngineSettings(dtype="float32", device="cpu", cache_blocks=8, max_context=100)
    )
    assert (engine.model_name, engine.max_context) == ("my-model", 100)
    assert engine.tokenizer is not None
    assert answer(engine).token_ids == answer(make_engine(engine.tokenizer)).token_ids


def test_bfloat16_runs(make_engine: MakeEngine) -> None:
    engine = make_engine(model=make_decoder().to(torch.bfloat16))
    assert engine.runner.cache.layers[0].keys.dtype == torch.bfloat16
    for i in range(5):
        engine.add_request(
            str(i), list(range(10 + 9 * i)), SamplingParams(max_tokens=20, logprobs=1, top_p=0.9)
        )
    assert all(output.finish_reason == "length" for output in run(engine).values())
