from dataclasses import replace

import pytest

from byollm.engine import AdmissionError, QueueFullError, SamplingParams
from byollm.engine.admission import Limits

LIMITS = Limits(vocab_size=100, context=64, cache_tokens=48, max_sequences=10, has_text=True)


def refusal(prompt: list[int], limits: Limits = LIMITS, **params: object) -> AdmissionError:
    with pytest.raises(AdmissionError) as caught:
        limits.check(prompt, SamplingParams(**params))  # type: ignore[arg-type]
    return caught.value


def test_what_can_never_fit_is_refused_with_all_the_numbers() -> None:
    error = refusal([1] * 30, max_tokens=40)
    assert error.param == "max_tokens"
    assert str(error) == (
        "the request can never fit: prompt of 30 tokens, max_tokens 40, 70 tokens together; the context is 64"
        " tokens and the KV cache holds 48: ask for at most 19 tokens or shorten the prompt"
    )


def test_prompt_that_leaves_no_room_is_refused() -> None:
    error = refusal([1] * 64)
    assert error.param == "prompt"
    assert "prompt of 64 tokens, no room for an answer" in str(error)
    assert str(error).endswith("shorten the prompt")


@pytest.mark.parametrize(("prompt", "fits"), [(1, 48), (47, 2), (48, 1)])
def test_last_token_needs_no_place_in_the_cache(prompt: int, fits: int) -> None:
    assert LIMITS.check([1] * prompt, SamplingParams(max_tokens=fits)) == fits
    refusal([1] * prompt, max_tokens=fits + 1)


def test_context_bounds_where_the_cache_is_larger() -> None:
    limits = replace(LIMITS, cache_tokens=1000)
    assert limits.check([1] * 60, SamplingParams(max_tokens=4)) == 4
    refusal([1] * 60, limits, max_tokens=5)


def test_without_max_tokens_the_answer_may_fill_what_is_left() -> None:
    assert LIMITS.check([1] * 10, SamplingParams()) == 39
    assert replace(LIMITS, cache_tokens=1000).check([1] * 10, SamplingParams()) == 54


def test_empty_prompt_is_refused() -> None:
    assert "empty" in str(refusal([]))


@pytest.mark.parametrize("token", [-1, 100, 10**12, 1.0, True, "1", None])
def test_token_out_of_vocabulary_is_refused(token: object) -> None:
    error = refusal([1, token])  # type: ignore[list-item]
    assert error.param == "prompt"
    assert f"{token!r} is not a token id of this model; expected integers from 0 to 99" in str(error)


def test_ids_in_parameters_are_checked_too() -> None:
    assert refusal([1], stop_token_ids=(100,)).param == "stop_token_ids"
    assert refusal([1], logit_bias={100: 1.0}).param == "logit_bias"


def test_stop_strings_need_a_tokenizer() -> None:
    assert refusal([1], replace(LIMITS, has_text=False), stop=("x",)).param == "stop"


def test_huge_prompt_is_refused_without_reading_it() -> None:
    assert "prompt of 10000000 tokens" in str(refusal(range(10_000_000)))  # type: ignore[arg-type]


def test_full_queue_is_a_refusal_of_its_own() -> None:
    LIMITS.check_room(unfinished=8, wanted=2)
    with pytest.raises(QueueFullError, match="3 more sequences asked for while 8 of at most 10"):
        LIMITS.check_room(unfinished=8, wanted=3)
