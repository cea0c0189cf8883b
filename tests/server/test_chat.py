"""POST /v1/chat/completions, asked by the official client."""

import asyncio
import re
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.server.support import Server

MESSAGES: list[Any] = [{"role": "user", "content": "the cat sat"}]


def ask(client: openai.OpenAI, **changes: Any) -> ChatCompletion:
    return client.chat.completions.create(
        **({"model": "tiny", "messages": MESSAGES, "max_tokens": 12, "seed": 3} | changes)
    )


def stream(client: openai.OpenAI, **changes: Any) -> list[Any]:
    return list(ask(client, stream=True, **changes))


def streamed_text(chunks: list[Any], index: int = 0) -> str:
    return "".join(
        choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.index == index
    )


def count(http: httpx.Client, **body: Any) -> int:
    answer = http.post("/tokenize", json=body).json()
    assert answer["count"] == len(answer["tokens"])
    return int(answer["count"])


def test_an_answer_has_openais_shape(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="tiny", messages=MESSAGES, max_tokens=5)
    body = raw.http_response.json()
    assert set(body) == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert body["object"] == "chat.completion"
    assert body["model"] == "tiny"
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", body["id"])
    (choice,) = body["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert set(choice["message"]) == {"role", "content", "refusal"}
    assert raw.headers["x-request-id"]


def test_a_stream_may_tell_its_usage_all_the_time(client: openai.OpenAI) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = stream(client, n=2, stream_options=options)
    *told, last = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert [usage.total_tokens for usage in told] == sorted(usage.total_tokens for usage in told)
    assert told[-1] == last
    assert len(told) > 2
    prompt = client.completions.create(
        model="tiny",
        prompt=["a", "b"],
        max_tokens=3,
        stream=True,
        stream_options=options,  # type: ignore[arg-type]
    )
    assert [chunk.usage for chunk in prompt][-2:].count(None) == 0


def test_usage_is_exact(client: openai.OpenAI, http: httpx.Client) -> None:
    answer = ask(client, max_tokens=7, extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == count(http, messages=MESSAGES)
    assert answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("parameters", [{"temperature": 0}, {"seed": 11}, {"seed": 5, "stop": ["a", "\n"]}])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, parameters: dict[str, Any]) -> None:
    whole = ask(client, max_tokens=60, **parameters)
    chunks = stream(client, max_tokens=60, stream_options={"include_usage": True}, **parameters)
    assert streamed_text(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == [whole.choices[0].finish_reason]
    assert chunks[-1].choices == []
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_without_include_usage_no_chunk_tells_it(client: openai.OpenAI) -> None:
    chunks = stream(client)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_no_half_character_is_ever_sent(client: openai.OpenAI) -> None:
    """The model spells random bytes; each chunk must decode as the same bytes do when they are all there."""
    chunks = stream(
        client,
        max_tokens=200,
        logprobs=True,
        extra_body={"ignore_eos": True, "logit_bias": {"1": -100, "2": -100, "0": -100}},
    )
    spelled = b"".join(
        bytes(token.bytes)
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    )
    assert streamed_text(chunks) == spelled.decode(errors="replace")
    assert any(ord(character) > 127 and character != "\ufffd" for character in streamed_text(chunks))


def test_the_same_seed_gives_the_same_answer(client: openai.OpenAI) -> None:
    first, second, other = (ask(client, seed=seed, max_tokens=30) for seed in (7, 7, 8))
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.choices[0].message.content != other.choices[0].message.content


def test_n_answers_come_side_by_side(client: openai.OpenAI) -> None:
    whole = ask(client, n=3, max_tokens=20, extra_body={"ignore_eos": True})
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in whole.choices}) == 3
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 60
    chunks = stream(client, n=3, max_tokens=20, extra_body={"ignore_eos": True})
    for choice in whole.choices:
        assert streamed_text(chunks, choice.index) == choice.message.content


def test_logprobs_name_each_token_and_its_rivals(client: openai.OpenAI) -> None:
    answer = ask(client, logprobs=True, top_logprobs=3, max_tokens=10, extra_body={"ignore_eos": True})
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == 10
    for token in logprobs.content:
        assert token.bytes is not None
        assert token.token == bytes(token.bytes).decode(errors="replace")
        assert len(token.top_logprobs) == 3
        rivals = [rival.logprob for rival in token.top_logprobs]
        assert rivals == sorted(rivals, reverse=True)
        assert token.logprob <= rivals[0] <= 0
    greedy = ask(client, logprobs=True, temperature=0, max_tokens=3)
    assert greedy.choices[0].logprobs is not None
    assert greedy.choices[0].logprobs.content is not None
    assert all(token.top_logprobs == [] for token in greedy.choices[0].logprobs.content)


def test_stop_ends_the_answer_and_is_not_part_of_it(client: openai.OpenAI) -> None:
    text = ask(client, temperature=0, max_tokens=60).choices[0].message.content
    assert text
    stop = text[len(text) // 2]
    answer = ask(client, temperature=0, max_tokens=60, stop=stop)
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_logit_bias_and_stop_token_ids_reach_the_sampler(client: openai.OpenAI, http: httpx.Client) -> None:
    (token,) = http.post("/tokenize", json={"prompt": "x"}).json()["tokens"]
    answer = ask(client, logit_bias={str(token): 100}, max_tokens=5)
    assert answer.choices[0].message.content == "xxxxx"
    stopped = ask(client, logit_bias={str(token): 100}, extra_body={"stop_token_ids": [token]})
    assert stopped.choices[0].message.content == ""
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage is not None
    assert stopped.usage.completion_tokens == 1


@pytest.mark.parametrize(
    "extra",
    [
        {"top_k": 1},
        {"min_p": 1},
        {"top_p": 0},
        {"temperature": 0, "repetition_penalty": 1.0},
        {"top_p": 1e-6},
    ],
)
def test_ways_to_be_greedy_agree(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    greedy = ask(client, temperature=0, max_tokens=15)
    assert (
        ask(client, max_tokens=15, extra_body=extra).choices[0].message.content
        == greedy.choices[0].message.content
    )


def test_messages_may_come_in_parts_with_every_role_and_go_round(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    first = ask(client)
    answer = ask(
        client,
        messages=[
            {"role": "developer", "content": "be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "the"}, {"type": "text", "text": "cat"}],
                "name": "ann",
            },
            first.choices[0].message,
            {"role": "user", "content": ""},
        ],
    )
    assert answer.usage is not None
    plain = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "the\ncat"},
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": ""},
    ]
    assert answer.usage.prompt_tokens == count(http, messages=plain)


def test_harmless_parameters_and_nulls_are_taken(client: openai.OpenAI) -> None:
    answer = ask(
        client,
        max_tokens=None,
        max_completion_tokens=3,
        user="me",
        metadata={"a": "b"},
        store=False,
        safety_identifier="x",
        prompt_cache_key="y",
        parallel_tool_calls=True,
        response_format={"type": "text"},
        service_tier="auto",
        tool_choice="none",
        tools=[],
        stop=None,
        logit_bias=None,
        n=1,
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 3


def test_without_a_limit_the_answer_may_fill_the_context(client: openai.OpenAI, http: httpx.Client) -> None:
    long = [{"role": "user", "content": "a" * 4000}]
    answer = ask(client, messages=long, max_tokens=None, extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert answer.usage.total_tokens == 4096
    assert answer.choices[0].finish_reason == "length"


def test_sixteen_at_once_get_what_each_gets_alone(server: Server, client: openai.OpenAI) -> None:
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 0.5, "top_p": 0.9},
        {"presence_penalty": 1.0, "frequency_penalty": 0.5},
        {"stop": ["e"], "n": 2},
    ]
    asked = [
        kinds[number % 4]
        | {
            "seed": number,
            "max_tokens": 10 + number,
            "messages": [{"role": "user", "content": f"cat {number}"}],
        }
        for number in range(16)
    ]
    alone = [[choice.message.content for choice in ask(client, **parameters).choices] for parameters in asked]

    async def together() -> list[list[str | None]]:
        async with server.async_client() as client:

            async def one(number: int, parameters: dict[str, Any]) -> list[str | None]:
                if number % 2:
                    chunks = [
                        chunk
                        async for chunk in await client.chat.completions.create(
                            model="tiny", stream=True, **parameters
                        )
                    ]
                    return [streamed_text(chunks, index) for index in range(parameters.get("n", 1))]
                answer = await client.chat.completions.create(model="tiny", **parameters)
                return [choice.message.content for choice in answer.choices]

            return await asyncio.gather(*(one(*numbered) for numbered in enumerate(asked)))

    assert asyncio.run(together()) == alone


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="gpt-5")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"


def test_a_prompt_longer_than_the_context_is_refused(client: openai.OpenAI, server: Server) -> None:
    for size in (5_000, 200_000):
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, messages=[{"role": "user", "content": "a" * size}], stream=True)
        assert caught.value.code == "context_length_exceeded"
        assert caught.value.param == "messages"
        assert "4096" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, max_tokens=5000)
    assert caught.value.code == "context_length_exceeded"
