"""OpenAI's client in front, SageMaker's runtime behind, a real gateway between."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import openai
import pytest

from byollm.gateway import Target, target_of
from byollm.gateway.metrics import Metrics
from byollm.gateway.passing import Passage
from byollm.settings import EndpointSpec, GatewaySettings, PageSettings, Settings
from byollm.web.errors import ApiError
from frontend.client import ModelClient
from frontend.errors import ModelLoadingError
from tests.gateway.conftest import DEADLINE_S, FakeRuntime, Gateway, serving, wait_for
from tests.gateway.fake_runtime import COMPONENT

# httpx's own patience is 5 s, which a busy machine may take
get, post = partial(httpx.get, timeout=DEADLINE_S), partial(httpx.post, timeout=DEADLINE_S)


def said(script: str) -> dict[str, Any]:
    return {"model": "model", "messages": [{"role": "user", "content": script}]}


def text(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_a_chat_is_answered_in_one_piece(client: openai.OpenAI, runtime: FakeRuntime) -> None:
    answer = client.chat.completions.create(**said("say: hello there"), temperature=0.3)
    assert answer.choices[0].message.content == "hello there"
    assert json.loads(runtime.seen.bodies[-1]) == said("say: hello there") | {"temperature": 0.3}


def test_calls_are_signed_and_name_the_component_and_their_id(gateway: Gateway, runtime: FakeRuntime) -> None:
    response = post(f"{gateway.url}/v1/chat/completions", json=said("say: hello"))
    assert response.status_code == 200, "the runtime checks the signature"
    headers = runtime.seen.headers[-1]
    assert headers["x-amzn-sagemaker-inference-component"] == COMPONENT
    assert headers["x-amzn-sagemaker-inference-id"] == response.headers["x-request-id"]
    assert headers["content-type"] == "application/json"


def test_a_chat_is_streamed_as_it_is_made(client: openai.OpenAI, runtime: FakeRuntime) -> None:
    words = []
    runtime.seen.steps.release()
    for chunk in client.chat.completions.create(**said("step: one two three"), stream=True):
        words.append(chunk.choices[0].delta.content)
        if len(words) < 3:
            runtime.seen.steps.release()  # the next is said when this one has come
    assert words == ["one ", "two ", "three ", ""]


def test_completions_and_embeddings_are_passed_on(gateway: Gateway, runtime: FakeRuntime) -> None:
    for route, body in (("completions", {"prompt": "say: a"}), ("embeddings", {"input": "say: a"})):
        response = post(f"{gateway.url}/v1/{route}", json=body)
        assert response.status_code == 200
        assert json.loads(runtime.seen.bodies[-1]) == body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "status", "code", "retry_after"),
    [
        ("throttled", 429, "rate_limit_exceeded", "1"),
        ("missing", 503, "model_not_ready", "30"),
        ("asleep", 503, "model_not_ready", "30"),
        ("down", 503, "unavailable", "1"),
        ("failing", 503, "unavailable", "1"),
        ("odd", 503, "unavailable", "1"),
        ("denied", 500, "internal_error", None),
        ("too long", 400, "context_length_exceeded", None),
        ("full", 429, "queue_full", "1"),
        ("loading", 503, "model_error", "1"),
        ("timed out", 504, "timeout", None),
    ],
)
def test_what_sagemaker_refuses_is_told_as_openai_would(
    client: openai.OpenAI, stream: bool, script: str, status: int, code: str, retry_after: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(**said(script), stream=stream)  # type: ignore[call-overload]
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert refused.value.response.headers.get("retry-after") == retry_after
    assert "123456789012" not in refused.value.message


def test_the_models_own_words_are_handed_on(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**said("too long"))
    assert refused.value.body == {
        "message": "This model's maximum context length is 64 tokens.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


@pytest.mark.parametrize("script", ["break", "cut", "garble", "half"])
def test_a_stream_that_breaks_ends_with_an_error_after_whole_events_only(
    client: openai.OpenAI, script: str
) -> None:
    stream = client.chat.completions.create(**said(f"{script}: one two"), stream=True)
    words: list[Any] = []
    with pytest.raises(openai.APIError, match="broke off in the middle"):
        words.extend(chunk.choices[0].delta.content for chunk in stream)
    assert words == ["one ", "two "]
    body = said(f"{script}: one two") | {"stream": True}
    again = post(f"{client.base_url}chat/completions", json=body)
    assert again.text.count("data: ") == 3
    assert "half" not in again.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_the_call_behind(
    gateway: Gateway, runtime: FakeRuntime, stream: bool
) -> None:
    body = json.dumps(said("hang: one" if stream else "hang") | {"stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    calls, left = len(runtime.seen.bodies), len(runtime.seen.left)
    with socket.create_connection(("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))) as connection:
        connection.sendall(head.encode() + body)
        wait_for(lambda: len(runtime.seen.bodies) > calls)
    wait_for(lambda: "hang" in runtime.seen.left[left:])


@pytest.mark.parametrize(
    ("route", "body", "code"),
    [
        ("chat/completions", b"{", "invalid_json"),
        ("chat/completions", b"[]", "invalid_json"),
        ("chat/completions", b'{"prompt": "a"}', "missing_required_parameter"),
        ("chat/completions", b'{"messages": [], "prompt": "a"}', "unknown_parameter"),
        ("completions", b'{"messages": []}', "missing_required_parameter"),
        ("embeddings", b"{}", "missing_required_parameter"),
    ],
)
def test_a_body_that_is_no_such_call_goes_no_further(
    gateway: Gateway, runtime: FakeRuntime, route: str, body: bytes, code: str
) -> None:
    calls = len(runtime.seen.bodies)
    refused = post(f"{gateway.url}/v1/{route}", content=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)
    assert len(runtime.seen.bodies) == calls


def test_an_unknown_route_is_told_in_openais_shape(gateway: Gateway) -> None:
    assert get(f"{gateway.url}/v2/models").json()["error"]["code"] == "unknown_url"
    assert get(f"{gateway.url}/v1/completions").status_code == 405


def test_a_page_of_another_site_is_refused_on_loopback(gateway: Gateway) -> None:
    foreign = get(f"{gateway.url}/v1/models", headers={"origin": "https://elsewhere.example"})
    assert foreign.status_code == 403


def test_the_models_are_those_that_the_endpoint_tells_adapters_too(client: openai.OpenAI) -> None:
    client.chat.completions.create(**said("say: awake"))
    assert [model.id for model in client.models.list()] == ["model", "legal"]
    assert client.models.retrieve("legal").model_dump()["parent"] == "model"
    with pytest.raises(openai.NotFoundError, match="There is model, legal"):
        client.models.retrieve("other")


def test_health_and_metrics(client: openai.OpenAI, gateway: Gateway) -> None:
    assert get(f"{gateway.url}/health").json()["status"] == "ready"
    client.chat.completions.create(**said("say: counted"))
    responses = 'byollm_gateway_http_responses_total{route="/v1/chat/completions",status="200"}'
    assert responses in get(f"{gateway.url}/metrics").text
    # a call has ended only once its answer is sent
    latency = 'byollm_gateway_latency_seconds_count{outcome="complete"}'
    wait_for(lambda: latency in get(f"{gateway.url}/metrics").text)


def test_the_log_tells_of_requests_and_not_of_their_words(gateway: Gateway) -> None:
    response = post(f"{gateway.url}/v1/chat/completions", json=said("say: a secret thought"))
    request_id = response.headers["x-request-id"]

    def lines() -> list[Any]:
        whole, _, _ = gateway.log.read_text().rpartition("\n")  # the last may be half written
        return [json.loads(line) for line in whole.splitlines()]

    wait_for(lambda: request_id in [line.get("request_id") for line in lines()])
    (line,) = [line for line in lines() if line.get("request_id") == request_id]
    assert line["outcome"] == "complete"
    assert line["bytes_out"] == len(response.content)
    assert "secret thought" not in gateway.log.read_text()


def test_the_page_speaks_to_the_gateway_as_to_a_model_server(gateway: Gateway) -> None:
    async def look_and_chat() -> None:
        page = ModelClient(PageSettings(api=gateway.url))
        assert await page.model() == "model"
        assert (await page.info())["model"] == "model"
        pieces = [piece async for piece in page.chat("model", said("say: one two")["messages"], {})]
        assert "".join(piece.text for piece in pieces) == "one two "
        with pytest.raises(ModelLoadingError, match="not running yet"):
            [piece async for piece in page.chat("model", said("asleep")["messages"], {})]
        await page.close()

    asyncio.run(look_and_chat())


@pytest.fixture(scope="module")
def small(runtime: FakeRuntime, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A gateway with narrow bounds."""
    with serving(
        runtime,
        tmp_path_factory.mktemp("small"),
        endpoint="byollm-dev",
        max_requests="1",
        max_body_bytes="2000",
    ) as gateway:
        yield gateway


def streamed(gateway: Gateway, script: str) -> Any:
    url, body = f"{gateway.url}/v1/chat/completions", said(script) | {"stream": True}
    return httpx.stream("POST", url, json=body, timeout=DEADLINE_S)


def test_its_bounds_hold(small: Gateway, runtime: FakeRuntime) -> None:
    url = f"{small.url}/v1/chat/completions"
    large = post(url, json=said("x" * 3000))
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    with streamed(small, "hang: one") as stream:
        lines = stream.iter_lines()
        assert "one" in next(lines)
        full = post(url, json=said("say: a"))
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        assert full.json()["error"]["code"] == "overloaded"
    assert "x-amzn-sagemaker-inference-component" not in runtime.seen.headers[-1]


def test_what_takes_too_long_is_given_up(runtime: FakeRuntime, tmp_path: Path) -> None:
    with serving(runtime, tmp_path, request_timeout_s="2", stream_timeout_s="5") as gateway:
        late = post(f"{gateway.url}/v1/chat/completions", json=said("hang"))
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        with streamed(gateway, "hang: one") as stream:
            lines = stream.iter_lines()
            assert "one" in next(lines)
            assert "was not complete within 5 s" in "".join(lines)


def test_large_bodies_under_way_keep_others_out() -> None:
    passage = Passage(cast(Any, None), GatewaySettings(max_body_bytes=1024), Metrics())
    with passage.admission(8 * 1024 - 1), pytest.raises(ApiError) as full, passage.admission(2):
        pass
    assert full.value.status == 503
    with passage.admission(8 * 1024):
        assert passage.running == 1


def refuses(gateway: Gateway) -> bool:
    try:
        return get(f"{gateway.url}/health").status_code != 200
    except httpx.TransportError:
        return True


def test_sigterm_lets_a_stream_finish_and_ends_with_0(runtime: FakeRuntime, tmp_path: Path) -> None:
    with serving(runtime, tmp_path) as gateway, gateway.client() as client:
        runtime.seen.steps.release()
        stream = client.chat.completions.create(**said("step: one two three four five"), stream=True)
        next(iter(stream))
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(gateway))
        runtime.seen.steps.release(4)
        assert text(stream) == "two three four five "
        assert gateway.process.wait(DEADLINE_S) == 0
    assert "Traceback" not in gateway.log.read_text()


def test_without_credentials_it_says_what_to_do(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    command = [sys.executable, "-m", "byollm", "gateway", "--port", "0"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "error: no AWS credentials" in ended.stderr


def test_it_serves_without_torch() -> None:
    script = "import sys, byollm.gateway; print({'torch', 'numpy', 'transformers'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        (Settings(), Target("byollm-prod")),
        (Settings(endpoint=EndpointSpec(hosting="component")), Target("byollm-prod", "byollm-prod-main")),
        (
            Settings(endpoint=EndpointSpec(hosting="component"), gateway=GatewaySettings(endpoint="mine")),
            Target("mine"),
        ),
        (Settings(gateway=GatewaySettings(endpoint="mine", component="part")), Target("mine", "part")),
    ],
)
def test_the_target_is_the_environments_own_unless_one_is_named(settings: Settings, target: Target) -> None:
    assert target_of("prod", settings) == target
