"""POST /v1/completions, asked by the official client."""

from typing import Any

import httpx
import openai
import pytest

from tests.server.support import wait_for


def ask(client: openai.OpenAI, **changes: Any) -> Any:
    return client.completions.create(
        **({"model": "tiny", "prompt": "the cat", "max_tokens": 10, "seed": 3} | changes)
    )


def tokens(http: httpx.Client, text: str) -> list[int]:
    ids: list[int] = http.post("/tokenize", json={"prompt": text}).json()["tokens"]
    return ids


def test_every_form_of_prompt_is_taken(client: openai.OpenAI, http: httpx.Client) -> None:
    cat, dog = tokens(http, "the cat"), tokens(http, "a dog")
    text = ask(client).choices[0].text
    assert ask(client, prompt=cat).choices[0].text == text
    for prompts in (["the cat", "a dog"], [cat, dog]):
        answer = ask(client, prompt=prompts, n=2)
        assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
        assert answer.choices[0].text == text
        assert answer.usage.prompt_tokens == len(cat) + len(dog)
    assert ask(client, prompt="").usage.prompt_tokens == 1


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"prompt": ["the cat", "a dog"], "n": 2, "echo": True, "max_tokens": 30}
    whole = ask(client, **asked)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **asked))
    for choice in whole.choices:
        of_this = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.text for part in of_this) == choice.text
        assert [part.finish_reason for part in of_this if part.finish_reason] == [choice.finish_reason]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert chunks[-1].choices == []


def test_echo_repeats_the_prompt(client: openai.OpenAI, http: httpx.Client) -> None:
    text = ask(client).choices[0].text
    assert ask(client, echo=True).choices[0].text == "the cat" + text
    assert ask(client, prompt=tokens(http, "the cat"), echo=True).choices[0].text == "the cat" + text


def test_the_prompt_has_log_probabilities_too(client: openai.OpenAI, http: httpx.Client) -> None:
    prompts = [tokens(http, "the cat sat"), tokens(http, "é on <|im_start|> it")]
    asked: dict[str, Any] = {
        "prompt": prompts,
        "echo": True,
        "logprobs": 2,
        "max_tokens": 1,
        "temperature": 0,
    }
    answer = ask(client, n=2, **asked)
    for choice, given in zip(answer.choices, [prompts[0], prompts[0], prompts[1], prompts[1]], strict=True):
        logprobs = choice.logprobs
        assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(given) + 1
        assert logprobs.token_logprobs[0] is None
        assert logprobs.top_logprobs[0] is None
        for token, logprob, top, offset in list(
            zip(
                logprobs.tokens,
                logprobs.token_logprobs,
                logprobs.top_logprobs,
                logprobs.text_offset,
                strict=True,
            )
        )[1 : len(given)]:
            assert top[token] == logprob <= max(top.values())
            if not token.startswith("bytes:"):
                assert choice.text[offset : offset + len(token)] == token
    # What is generated is no more than what could have been a prompt.
    first = answer.choices[0].logprobs
    longer = http.post("/tokenize", json={"prompt": answer.choices[0].text}).json()["tokens"]
    if longer[:-1] == prompts[0]:
        again = ask(client, **(asked | {"prompt": longer})).choices[0].logprobs
        assert again.token_logprobs[len(longer) - 1] == pytest.approx(first.token_logprobs[-1], abs=1e-4)
    chunks = list(ask(client, n=2, stream=True, **asked))
    for choice in answer.choices:
        parts = [part.choices[0].logprobs for part in chunks if part.choices[0].index == choice.index]
        whole = [entry for part in parts if part is not None for entry in part.token_logprobs]
        assert whole == choice.logprobs.token_logprobs
        assert [
            offset for part in parts if part for offset in part.text_offset
        ] == choice.logprobs.text_offset


def test_no_tokens_need_no_answer(client: openai.OpenAI, http: httpx.Client) -> None:
    prompt = tokens(http, "the cat sat")
    answer = ask(client, prompt=prompt, max_tokens=0, echo=True, logprobs=0)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("the cat sat", "length")
    assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) == len(prompt)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt), 0)
    chunks = list(ask(client, prompt="the cat", max_tokens=0, n=2, stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == ["length", "length"]


def test_min_tokens_puts_the_end_off(client: openai.OpenAI) -> None:
    always_end = {"logit_bias": {"2": 100}, "max_tokens": 9}
    assert ask(client, **always_end).usage.completion_tokens == 1
    answer = ask(client, extra_body={"min_tokens": 5}, **always_end)
    assert answer.usage.completion_tokens == 6
    assert answer.choices[0].finish_reason == "stop"


def test_sixteen_tokens_unless_told_otherwise(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="a", extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_logprobs_have_the_older_shape(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"logprobs": 2, "max_tokens": 25, "extra_body": {"ignore_eos": True}}
    answer = ask(client, **asked)
    logprobs = answer.choices[0].logprobs
    text = answer.choices[0].text
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 25
    for token, logprob, offset, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.text_offset, logprobs.top_logprobs, strict=True
    ):
        assert top[token] == logprob
        assert 1 <= len(top) <= 3
        if not token.startswith(("bytes:", "<|")):  # control tokens are no part of the text
            assert text[offset : offset + len(token)] == token
    chunks = list(ask(client, stream=True, **asked))
    parts = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert [token for part in parts for token in part.tokens] == logprobs.tokens
    assert [offset for part in parts for offset in part.text_offset] == logprobs.text_offset


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"min_tokens": 11}, "min_tokens", "invalid_value"),
        ({"prompt": [1, 4000], "max_tokens": 0}, "prompt", "invalid_value"),
        ({"prompt": [1] * 4097, "max_tokens": 0}, "prompt", "context_length_exceeded"),
        ({"best_of": 3}, "best_of", "invalid_value"),
        ({"suffix": "end"}, "suffix", "unsupported_parameter"),
        ({"logprobs": 6}, "logprobs", "invalid_value"),
        ({"prompt": [1, 2, 4000]}, "prompt", "invalid_value"),
        ({"prompt": [1] * 5000}, "prompt", "context_length_exceeded"),
        ({"prompt": [1, "a"]}, "prompt", "invalid_type"),
        ({"prompt": [[1], "a"]}, "prompt", "invalid_type"),
        ({"prompt": [True]}, "prompt", "invalid_type"),
        ({"prompt": [-1]}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "invalid_type"),
        ({"prompt": {"a": 1}}, "prompt", "invalid_type"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt", "invalid_value"),
        ({"prompt": ["a"] * 3000}, "prompt", "invalid_value"),
        ({"prompt": [[1]] * 3000}, "prompt", "invalid_value"),
        ({"prompt": [[]] * 129}, "prompt", "invalid_value"),
        ({"logit_bias": {"4000": 1}}, "logit_bias", "invalid_value"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: openai.OpenAI, changes: dict[str, Any], param: str, code: str
) -> None:
    if "min_tokens" in changes:
        changes = {"extra_body": changes}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **changes)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_one_bad_prompt_refuses_all_and_leaves_nothing_behind(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError):
            ask(client, prompt=[[5], [6], [4000]], stream=stream)
    wait_for(lambda: http.get("/health").json()["requests"] == {"running": 0, "waiting": 0})
