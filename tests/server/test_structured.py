"""Answers in a form that was asked for: JSON, a schema, an expression, a grammar."""

import asyncio
import json
import re
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.server.support import PATIENCE_S, Server

MESSAGES: list[Any] = [{"role": "user", "content": "the cat sat"}]
SCHEMA = {
    "type": "object",
    "properties": {"pet": {"enum": ["cat", "dog"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["pet", "legs"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": SCHEMA}}


def ask(client: openai.OpenAI, **changes: Any) -> ChatCompletion:
    return client.chat.completions.create(
        **({"model": "tiny", "messages": MESSAGES, "max_tokens": 100, "seed": 3} | changes)
    )


def check_pet(text: str) -> None:
    pet = json.loads(text)
    assert set(pet) == {"pet", "legs"}
    assert pet["pet"] in ("cat", "dog")
    assert 0 <= pet["legs"] <= 9


def test_a_schema_is_followed_whole_and_streamed_by_every_answer(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"response_format": FORMAT, "n": 3, "logprobs": True, "top_logprobs": 1}
    whole = ask(client, **asked)
    for choice in whole.choices:
        check_pet(choice.message.content or "")
        assert choice.finish_reason == "stop"
        assert choice.logprobs is not None
    chunks: list[Any] = list(ask(client, stream=True, **asked))
    for choice in whole.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == choice.index]
        assert "".join(part.delta.content or "" for part in parts) == choice.message.content


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        ({"regex": "[abc]{3}-[0-9]{2}"}, "[abc]{3}-[0-9]{2}"),
        ({"choice": ['yes "sir"', "né 😀"]}, 'yes "sir"|né 😀'),
        ({"grammar": 'root ::= "<" [a-c]+ ">"'}, "<[a-c]+>"),
        ({"json": SCHEMA}, r"\{.*\}"),
        ({"json": json.dumps(SCHEMA)}, r"\{.*\}"),
    ],
)
def test_vllms_names_do_the_rest(client: openai.OpenAI, wanted: dict[str, Any], pattern: str) -> None:
    body = {"structured_outputs": wanted}
    assert re.fullmatch(pattern, ask(client, extra_body=body).choices[0].message.content or "")
    text = (
        client.completions.create(model="tiny", prompt="a", max_tokens=100, extra_body=body).choices[0].text
    )
    assert re.fullmatch(pattern, text)


def test_json_mode_begins_an_object(client: openai.OpenAI) -> None:
    biased = {"logit_bias": {str(token): -50 for token in range(3, 300)}, "max_tokens": 40}
    text = ask(client, response_format={"type": "json_object"}, **biased).choices[0].message.content or ""
    assert text.startswith("{")
    assert ask(client, response_format={"type": "text"}).choices[0].message.content


def test_a_stop_string_ends_what_a_grammar_would_go_on_with(client: openai.OpenAI) -> None:
    answer = ask(client, response_format=FORMAT, stop=['"legs"'])
    assert answer.choices[0].message.content in ('{"pet": "cat", ', '{"pet": "dog", ')


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": FORMAT | {"json_schema": {"name": "a", "schema": {"type": "robot"}}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a" * 70_000}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a"}, "response_format": FORMAT}, "structured_outputs"),
        ({"structured_outputs": {"lark": "a"}}, "structured_outputs.lark"),
        ({"structured_outputs": {"regex": "a"}, "min_tokens": 2}, "min_tokens"),
        ({"guided_json": SCHEMA}, "guided_json"),
    ],
)
def test_what_is_not_valid_is_named(http: httpx.Client, changes: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5} | changes
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert "/" not in response.json()["error"]["message"].replace("docs/api.md", "")


def test_a_grammar_that_explodes_holds_up_nobody(server: Server) -> None:
    async def main() -> None:
        async with server.async_client() as client:

            async def explode(regex: str) -> str:
                with pytest.raises(openai.BadRequestError) as refused:
                    await client.completions.create(
                        model="tiny",
                        prompt="a",
                        max_tokens=4000,
                        logit_bias={str(token): -100 for token in b_tokens},
                        extra_body={"structured_outputs": {"regex": regex}},
                    )
                return str(refused.value.param)

            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
                answer = await http.post("/tokenize", json={"prompt": "b"})
            b_tokens = answer.json()["tokens"]
            bad = [asyncio.create_task(explode(regex)) for regex in ("a?" * 5000 + "a" * 5000, "((a*)*)*b")]
            answered = 0
            while not all(task.done() for task in bad):
                await client.completions.create(model="tiny", prompt="a", max_tokens=5)
                answered += 1
                await asyncio.sleep(0.05)
            assert [task.result() for task in bad] == ["structured_outputs.regex"] * 2
            assert answered > 1

    asyncio.run(main())
    server.wait_until_idle()
