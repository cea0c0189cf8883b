"""Bad input: a 400 that names what was wrong, in OpenAI's shape and bounded in size."""

import json
from typing import Any

import httpx
import pytest

from byollm.web.body import parse_json
from byollm.web.errors import ApiError

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


def refused(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error, whose shape is checked on the way."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) < 2500
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]},
            "messages[0].tool_calls[0].type",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "mood": 1}]},
            "messages[0].mood",
            "unknown_parameter",
        ),
        ({"messages": [{"role": "user", "content": "x"}] * 3000}, "messages", "invalid_value"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": 1.5}, "top_p", "invalid_value"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"top_k": 10**30}, "top_k", "invalid_value"),
        ({"min_p": 2}, "min_p", "invalid_value"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "invalid_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 129}, "n", "invalid_value"),
        ({"n": 1.5}, "n", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"max_tokens": 10**40}, "messages", "context_length_exceeded"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"seed": "x"}, "seed", "invalid_type"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ({"stop": ""}, "stop[0]", "invalid_value"),
        ({"stop": [1]}, "stop[0]", "invalid_type"),
        ({"stop": 5}, "stop", "invalid_type"),
        ({"stop": "x" * 2000}, "stop[0]", "invalid_value"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"5": 200}}, "logit_bias[5]", "invalid_value"),
        ({"logit_bias": {"99999": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": [1]}, "logit_bias", "invalid_type"),
        ({"stop_token_ids": [99999]}, "stop_token_ids", "invalid_value"),
        ({"logprobs": 3}, "logprobs", "invalid_type"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            {"stream": True, "stream_options": {"include_all": True}},
            "stream_options.include_all",
            "unknown_parameter",
        ),
        ({"store": True}, "store", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ({"tool_choice": "auto"}, "tool_choice", "invalid_value"),
        ({"functions": [{}]}, "functions", "unsupported_parameter"),
        ({"function_call": "auto"}, "function_call", "unsupported_parameter"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
        ({"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
        ({"prediction": {"type": "content"}}, "prediction", "unsupported_parameter"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "unsupported_parameter"),
        ({"verbosity": "low"}, "verbosity", "unsupported_parameter"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
        ({"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
        ({"moderation": {}}, "moderation", "unsupported_parameter"),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"é" * 5000: 1}, None, "unknown_parameter"),
        ({str(number): 1 for number in range(5000)}, "", "invalid_value"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ],
)
def test_a_bad_parameter_is_named(
    http: httpx.Client, changes: dict[str, Any], param: str | None, code: str
) -> None:
    body = {name: value for name, value in (CHAT | changes).items() if value is not None}
    error = refused(http.post("/v1/chat/completions", json=body))
    assert error["code"] == code
    if param is not None:
        assert error["param"] == param
        assert param in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b"[]",
        b'"text"',
        b"5",
        b"null",
        b'{"model": "tiny"} and more',
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": -Infinity}',
        b'{"a": "\xff\xfe"}',
        b'{"a": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"n": ' + b"9" * 100_000 + b"}",
        b"\x00" * 100,
        b"\x1f\x8b\x08\x00",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_object_is_refused(http: httpx.Client, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/invocations", "/generate", "/tokenize"):
        assert refused(http.post(path, content=body))["code"] == "invalid_json"


def test_a_body_of_millions_of_elements_is_refused_but_not_a_text_that_looks_like_one() -> None:
    for element in (b"1", b"[1]", b'"a"', b'{"a":"\\""}'):
        body = b'{"prompt":[' + element + (b"," + element) * 2**20 + b"]}"
        with pytest.raises(ApiError, match="elements"):
            parse_json(body)
    for text in ("[,{" * 2**20, '\\"",[' * 2**20, "\n,\\" * 2**20):
        assert parse_json(json.dumps({"prompt": text}).encode()) == {"prompt": text}


def test_numbers_beyond_floats_are_refused(http: httpx.Client) -> None:
    body = json.dumps(CHAT)[:-1] + ', "temperature": 1e999}'
    error = refused(http.post("/v1/chat/completions", content=body))
    assert (error["param"], error["code"]) == ("temperature", "invalid_value")


def test_a_body_may_be_sent_without_saying_that_it_is_json(http: httpx.Client) -> None:
    response = http.post(
        "/v1/chat/completions", content=json.dumps(CHAT), headers={"content-type": "text/plain"}
    )
    assert response.status_code == 200


def test_unknown_routes_and_wrong_methods_have_the_same_shape(http: httpx.Client) -> None:
    for path in ("/", "/v1", "/v1/audio/speech", "/v1/chat/completions/", "/docs", "/" + "x" * 5000, "/%00"):
        assert refused(http.get(path), 404)["code"] == "unknown_url"
    for method, path, allowed in (
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models/tiny", "GET"),
        ("PUT", "/invocations", "POST"),
        ("POST", "/ping", "GET"),
        ("PUT", "/adapters", "GET, POST"),
    ):
        response = http.request(method, path)
        assert refused(response, 405)["code"] == "method_not_allowed"
        assert response.headers["allow"] == allowed


def test_the_server_goes_on_after_all_that(http: httpx.Client) -> None:
    assert http.post("/v1/chat/completions", json=CHAT).status_code == 200
