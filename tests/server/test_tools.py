"""Tools: a model that says nothing but noise makes valid calls all the same."""

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from byollm.modeling import Tokenizer
from tests.server.conftest import save_tokenizer

MESSAGES: list[Any] = [{"role": "user", "content": "the cat sat"}]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {"type": "function", "function": {"name": name, "description": "It helps.", "parameters": schema}}


TOOLS: list[Any] = [
    tool("add", a={"type": "integer", "minimum": 0, "maximum": 9}, b={"enum": [1, 2]}),
    tool("greet", who={"enum": ["Ann", "Bob"]}),
]


def ask(client: openai.OpenAI, **changes: Any) -> ChatCompletion:
    asked = {"model": "tiny", "messages": MESSAGES, "max_tokens": 400, "seed": 3, "tools": TOOLS}
    return client.chat.completions.create(**(asked | changes))


def check_call(name: str, arguments: str) -> None:
    given = json.loads(arguments)
    if name == "add":
        assert set(given) == {"a", "b"}
        assert given["a"] in range(10)
        assert given["b"] in (1, 2)
    else:
        assert name == "greet"
        assert given["who"] in ("Ann", "Bob")


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "greet"}}], ids=["required", "named"]
)
def test_a_call_that_must_be_made_is_valid(client: openai.OpenAI, choice: Any) -> None:
    asked: dict[str, Any] = {"tool_choice": choice, "n": 2, "parallel_tool_calls": False, "logprobs": True}
    answer = ask(client, **asked)
    for made in answer.choices:
        assert made.finish_reason == "tool_calls"
        assert made.message.content is None
        assert made.message.tool_calls is not None
        (call,) = made.message.tool_calls
        assert call.type == "function"
        check_call(call.function.name, call.function.arguments)
        if choice != "required":
            assert call.function.name == "greet"
    chunks: list[Any] = list(ask(client, stream=True, **asked))
    for made in answer.choices:
        parts = [part for chunk in chunks for part in chunk.choices if part.index == made.index]
        deltas = [delta for part in parts for delta in part.delta.tool_calls or []]
        assert deltas[0].id
        assert deltas[0].type == "function"
        assert all(delta.index == 0 and delta.id is None for delta in deltas[1:])
        assert made.message.tool_calls is not None
        assert deltas[0].function.name == made.message.tool_calls[0].function.name  # type: ignore[union-attr]
        streamed = "".join(delta.function.arguments for delta in deltas)
        assert streamed == made.message.tool_calls[0].function.arguments  # type: ignore[union-attr]
        assert [part.finish_reason for part in parts if part.finish_reason] == ["tool_calls"]
        assert sum(len(part.logprobs.content) for part in parts if part.logprobs) == len(
            made.logprobs.content  # type: ignore[union-attr,arg-type]
        )


def test_a_call_that_a_stop_string_or_the_limit_cuts_short_is_not_told_as_whole(
    client: openai.OpenAI,
) -> None:
    asked: dict[str, Any] = {"tool_choice": "required", "parallel_tool_calls": False}
    stopped = ask(client, stop='"', **asked).choices[0]
    assert (stopped.finish_reason, stopped.message.content) == ("stop", None)
    stopped = ask(
        client, stop="who", tool_choice={"type": "function", "function": {"name": "greet"}}
    ).choices[0]
    assert stopped.message.tool_calls is not None
    assert stopped.finish_reason == "stop"
    cut = ask(client, max_tokens=3, **asked).choices[0]
    assert (cut.finish_reason, cut.message.content) == ("length", None)
    chunks: list[Any] = list(ask(client, stream=True, max_tokens=3, **asked))
    assert not any(part.delta.content for chunk in chunks for part in chunk.choices)


def test_a_model_may_choose_to_say_something_else(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None
    both = ask(client, response_format={"type": "json_object"}, max_tokens=8).choices[0].message
    assert both.tool_calls or (both.content or "{").startswith("{")


def test_tools_that_are_not_allowed_are_not_called(client: openai.OpenAI) -> None:
    allowed: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "add"}}]},
    }
    calls = ask(client, tool_choice=allowed, parallel_tool_calls=False).choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.name == "add"  # type: ignore[union-attr]


def test_the_prompt_tells_of_tools_unless_they_are_forbidden(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    def length(**changes: Any) -> int:
        usage = ask(client, max_tokens=1, **changes).usage
        assert usage is not None
        return usage.prompt_tokens

    plain = length(tools=[])
    assert length(tool_choice="none") == plain
    assert length() > plain + 50
    body = {"messages": MESSAGES, "tools": TOOLS}
    assert length() == http.post("/tokenize", json=body).json()["count"]


def test_a_conversation_goes_on_after_a_call(client: openai.OpenAI) -> None:
    made = ask(client, tool_choice="required", parallel_tool_calls=False).choices[0].message
    assert made.tool_calls is not None
    result = {"role": "tool", "tool_call_id": made.tool_calls[0].id, "content": "Done."}
    answer = ask(client, messages=[*MESSAGES, made.model_dump(exclude_none=True), result], max_tokens=4)
    assert answer.choices[0].finish_reason in ("length", "stop")


def test_a_template_that_knows_tools_gets_them_as_they_are(tmp_path: Path) -> None:
    template = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{{ messages[0].content }}"
    save_tokenizer(tmp_path, template)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.knows_tools
    special = {"name": "<|im_end|>"}
    tokens = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tools=[special])
    assert tokenizer.decode(tokens, skip_special=False) == '{"name": "<|im_end|>"}hi'
    assert 2 not in tokens  # spelled out, it is text


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
            "tools[0].function.parameters",
        ),
        (
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "a", "parameters": {"properties": {"x": {"type": "robot"}}}},
                    }
                ]
            },
            "tools",
        ),
        ({"tool_choice": "always"}, "tool_choice.mode"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "function", "function": {"name": "nobody"}}}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]}, "messages[0].tool_call_id"),
        (
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "1", "type": "function", "function": {"name": "add", "arguments": "[1"}}
                        ],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_is_not_valid_is_named(http: httpx.Client, changes: dict[str, Any], param: str) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, "tools": TOOLS} | changes
    response = http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
