"""The smoke test takes an answer, waits for what wakes, and refuses what is no answer."""

import io
import json
import time
from typing import Any

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from byollm.aws import Clients
from byollm.lifecycle import SmokeTestFailed
from byollm.lifecycle.smoke import Answer, ask
from tests.lifecycle.support import AB, COMPONENT, SHADOW, deployment


class Runtime:
    """A runtime that answers as it is told, in order."""

    def __init__(self) -> None:
        self._client = Clients("ca-central-1", "http://localhost:1").client("sagemaker-runtime")
        self.stubber = Stubber(self._client)

    def client(self, service: str) -> Any:
        return self._client

    def answers(self, content: object, **expected: Any) -> None:
        body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.body(body, **expected)

    def body(self, body: bytes, **expected: Any) -> None:
        stream = StreamingBody(io.BytesIO(body), len(body))
        self.stubber.add_response("invoke_endpoint", {"Body": stream}, expected or None)

    def refuses(self, code: str, message: str = "", status: int | None = None) -> None:
        fields = {"OriginalStatusCode": status} if status else {}
        self.stubber.add_client_error("invoke_endpoint", code, message, modeled_fields=fields)

    def ask(self, spec: dict[str, Any] | None = None, seconds: float = 60, variant: str = "main") -> Answer:
        until = time.monotonic() + seconds
        with self.stubber:
            answer = ask(self, deployment(spec), variant, until=until, every_s=0)  # type: ignore[arg-type]
        self.stubber.assert_no_pending_responses()
        return answer


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    return Runtime()


def test_an_answer_is_passed_on_in_part(runtime: Runtime) -> None:
    runtime.answers("Hello! " * 1000)
    answer = runtime.ask()
    assert answer.text.startswith("Hello!")
    assert len(answer.text) == 500
    assert 0 <= answer.seconds < 60


@pytest.mark.parametrize(
    ("spec", "variant", "place"),
    [
        (AB, "other", {"TargetVariant": "other"}),
        (SHADOW, "next", {}),
        (COMPONENT, "main", {"InferenceComponentName": "byollm-dev-main"}),
    ],
    ids=["variant", "shadow", "component"],
)
def test_the_version_in_question_is_asked(
    runtime: Runtime, spec: dict[str, Any], variant: str, place: dict[str, str]
) -> None:
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 32, "temperature": 0}
    request = {"EndpointName": "byollm-dev", "ContentType": "application/json", "Body": json.dumps(body)}
    runtime.answers("Hello!", **request, **place)
    assert runtime.ask(spec, variant=variant).text == "Hello!"


def test_what_wakes_is_asked_again(runtime: Runtime) -> None:
    runtime.refuses("ValidationError", "Inference Component has no capacity to process this request.")
    runtime.refuses("ModelNotReadyException")
    runtime.refuses("ModelError", "loading", 503)
    runtime.answers("Hello!")
    assert runtime.ask(COMPONENT).text == "Hello!"


def test_what_never_wakes_is_given_up(runtime: Runtime) -> None:
    runtime.refuses("ServiceUnavailable", "It rests.")
    with pytest.raises(SmokeTestFailed, match=r"does not answer: .*It rests\."):
        runtime.ask(seconds=-1)


@pytest.mark.parametrize(
    ("code", "status"), [("ModelError", 400), ("ModelError", 500), ("AccessDeniedException", None)]
)
def test_what_asking_again_does_not_change_fails_at_once(
    runtime: Runtime, code: str, status: int | None
) -> None:
    runtime.refuses(code, "No.", status)
    with pytest.raises(SmokeTestFailed, match="byollm-dev does not answer"):
        runtime.ask()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"choices": []}', b"\xff" * 10_000])
def test_what_is_no_chat_fails(runtime: Runtime, body: bytes) -> None:
    runtime.body(body)
    with pytest.raises(SmokeTestFailed, match="not as a chat with text") as failure:
        runtime.ask()
    assert len(str(failure.value)) < 700


@pytest.mark.parametrize("content", ["", "  \n", None, 3])
def test_an_answer_without_text_fails(runtime: Runtime, content: object) -> None:
    runtime.answers(content)
    with pytest.raises(SmokeTestFailed, match="not as a chat with text"):
        runtime.ask()
