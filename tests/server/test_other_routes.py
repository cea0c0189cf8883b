"""Every route beside chat and completions."""

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.server.support import CONTEXT, VOCAB, Server

CHAT = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 6, "seed": 1}
TEXT = {"prompt": "the cat", "max_tokens": 6, "seed": 1}


def events(response: httpx.Response) -> list[Any]:
    """The data of a stream, whose framing is checked on the way."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    *blocks, rest = response.text.split("\n\n")
    assert rest == ""
    assert blocks.pop() == "data: [DONE]"
    blocks = [block for block in blocks if block != ": keep-alive"]  # from a machine that is busy
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_the_models_route_lists_the_model(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("tiny", "model", "byollm")
    assert client.models.retrieve("tiny") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/other")


def test_invocations_take_a_chat_or_a_text(http: httpx.Client) -> None:
    chat = http.post("/invocations", json=CHAT).json()
    same = http.post("/v1/chat/completions", json=CHAT | {"model": "tiny"}).json()
    assert chat["choices"] == same["choices"]
    assert chat["model"] == "tiny"
    text = http.post("/invocations", json=TEXT).json()
    assert text["object"] == "text_completion"
    streamed = events(http.post("/invocations", json=CHAT | {"stream": True}))
    spoken = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed)
    assert spoken == chat["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("body", "param", "code", "word"),
    [
        ({}, "messages", "missing_required_parameter", "prompt"),
        (CHAT | TEXT, "prompt", "invalid_value", "messages"),
        (CHAT | {"inputs": "x"}, "inputs", "unknown_parameter", "inputs"),
    ],
)
def test_invocations_say_what_is_wrong(
    http: httpx.Client, body: dict[str, Any], param: str, code: str, word: str
) -> None:
    response = http.post("/invocations", json=body)
    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["param"], error["code"]) == (param, code)
    assert word in error["message"]


def test_generate_and_predict_continue_a_prompt(http: httpx.Client) -> None:
    asked = {
        "prompt": "the cat",
        "max_new_tokens": 8,
        "seed": 1,
        "temperature": 0.9,
        "top_p": 0.95,
        "ignore_eos": True,
    }
    answer = http.post("/generate", json=asked).json()
    assert set(answer) == {"text", "finish_reason", "model", "usage"}
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8
    prompt_tokens = answer["usage"]["prompt_tokens"]
    by_length = {"max_length": prompt_tokens + 8}
    del asked["max_new_tokens"]
    assert http.post("/predict", json=asked | by_length).json() == answer
    *texts, last = events(http.post("/generate", json=asked | by_length | {"stream": True}))
    assert "".join(event["text"] for event in texts) == answer["text"]
    assert last == {key: answer[key] for key in ("finish_reason", "model", "usage")}


@pytest.mark.parametrize(
    ("extra", "param", "code"),
    [
        ({"max_tokens": 1, "max_length": 2}, "max_length", "invalid_value"),
        ({"max_length": 1}, "max_length", "invalid_value"),
        ({"n": 2}, "n", "unknown_parameter"),
        ({"prompt": ["a"]}, "prompt", "invalid_type"),
    ],
)
def test_generate_refuses_by_name(http: httpx.Client, extra: dict[str, Any], param: str, code: str) -> None:
    response = http.post("/generate", json={"prompt": "the cat sat"} | extra)
    assert response.status_code == 400
    assert (response.json()["error"]["param"], response.json()["error"]["code"]) == (param, code)


def test_tokenize_and_detokenize_are_inverse(http: httpx.Client) -> None:
    text = "the cat, 好 \u0000 🎉"
    tokenized = http.post("/tokenize", json={"prompt": text}).json()
    assert tokenized["max_model_len"] == CONTEXT
    assert http.post("/detokenize", json={"tokens": tokenized["tokens"]}).json() == {"prompt": text}
    chat = http.post("/tokenize", json={"messages": CHAT["messages"]}).json()
    written = http.post("/detokenize", json={"tokens": chat["tokens"]}).json()["prompt"]
    assert written == "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    for wrong in ({}, {"prompt": "a", "messages": CHAT["messages"]}, {"prompt": "a", "add": 1}):
        assert http.post("/tokenize", json=wrong).status_code == 400
    for beyond in ([VOCAB], [10**30], [-1], ["a"]):
        assert http.post("/detokenize", json={"tokens": beyond}).json()["error"]["param"].startswith("tokens")
    assert http.post("/tokenize", json={"prompt": "a", "model": "other"}).status_code == 404


def test_what_a_user_writes_is_never_a_control_token(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "<|im_end|>"}]
    tokens = http.post("/tokenize", json={"messages": messages}).json()["tokens"]
    assert tokens.count(2) == 1


def test_ping_health_and_model_info(http: httpx.Client) -> None:
    ping = http.get("/ping")
    assert (ping.status_code, ping.json()) == (200, {"status": "ready"})
    health = http.get("/health").json()
    assert (health["status"], health["model"], health["model_loaded"]) == ("ready", "tiny", True)
    assert health["device"] == "cpu"
    info = http.get("/model/info").json()
    assert (info["family"], info["layers"], info["vocab_size"]) == ("qwen3", 2, VOCAB)
    assert info["max_context"] == CONTEXT
    assert info["parameters"] > 10_000


def test_the_servers_own_process_does_without_torch(server: Server) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libpython" in maps or "python" in maps
    assert "libtorch" not in maps


def test_metrics_count_what_happened(server: Server, http: httpx.Client) -> None:
    names = {
        "time_to_first_token_seconds_count": 1,
        "e2e_request_latency_seconds_count": 1,
        "request_generation_tokens_sum": 5,
        "generation_tokens_total": 5,
        "request_success_total": 1,
    }
    before = {name: server.metric(name) for name in names}
    http.post(
        "/v1/chat/completions",
        json=CHAT | {"model": "tiny", "max_tokens": 5, "ignore_eos": True, "stream": True},
    )
    assert {name: server.metric(name) - before[name] for name in names} == names
    assert server.metric("inter_token_latency_seconds_count") > 0
    refused = server.metric("request_failure_total", reason="refused")
    http.post("/v1/completions", json={"model": "tiny", "prompt": [1] * 5000})
    assert server.metric("request_failure_total", reason="refused") == refused + 1
    assert server.metric("http_responses_total", route="/v1/completions", status="400") >= 1
    kind = http.get("/metrics").headers["content-type"]
    assert kind.startswith("text/plain; version=")


def test_metrics_count_shared_beginnings_and_guesses(server: Server, http: httpx.Client) -> None:
    names = ("prefix_cache_queries_total", "prefix_cache_hits_total", "spec_decode_num_drafts_total")
    guesses = ("spec_decode_num_draft_tokens_total", "spec_decode_num_accepted_tokens_total")
    before = {name: server.metric(name) for name in names + guesses}
    always_5 = {"logit_bias": {"5": 100}, "temperature": 0, "max_tokens": 40, "ignore_eos": True}
    for _ in range(2):
        http.post("/v1/completions", json={"model": "tiny", "prompt": [7, 8, 9] * 12} | always_5)
    counted = {name: server.metric(name) - before[name] for name in names + guesses}
    assert (counted["prefix_cache_queries_total"], counted["prefix_cache_hits_total"]) == (72, 32)
    assert counted["spec_decode_num_drafts_total"] > 4
    drafted, accepted = (counted[name] for name in guesses)
    assert drafted >= accepted > 30


def test_the_schema_describes_the_bodies(http: httpx.Client) -> None:
    schema = http.get("/openapi.json").json()
    body = schema["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    chat = schema["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]
    assert set(chat["required"]) == {"model", "messages"}
    assert chat["properties"]["temperature"]["maximum"] == 2
    assert chat["additionalProperties"] is False
    kinds = [kind["type"] for kind in chat["properties"]["stop"]["anyOf"]]
    assert kinds == ["string", "array"]
