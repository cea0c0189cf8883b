"""An unmodified boto3 client calls an endpoint, and is told in AWS's words what went wrong."""

import json
import os
import re
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, EventStreamError

from byollm.local.world import ACCESS_KEY, SECRET_KEY
from tests.local import patient
from tests.local.sagemaker.hosting import Hosting, error_of, eventually


@pytest.fixture(scope="module")
def endpoint(hosting: Hosting) -> str:
    return hosting.endpoint(hosting.variant())


def test_a_call_reaches_the_container_and_its_answer_the_client(hosting: Hosting, endpoint: str) -> None:
    answer = hosting.runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=b'{"text": "hello"}',
        ContentType="application/json",
        Accept="application/json",
        CustomAttributes="trace=1",
        SessionId="any",
        TargetVariant="main",
    )
    said = json.loads(answer["Body"].read())
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "main"
    assert answer["CustomAttributes"] == "from the container"
    assert (said["attributes"], said["accept"], said["name"]) == ("trace=1", "application/json", "main")
    eventually(lambda: "asked hello" in hosting.log(endpoint))  # which its keeper writes in its own time


def test_a_stream_arrives_piece_by_piece(hosting: Hosting, endpoint: str) -> None:
    events = list(hosting.stream(endpoint, stream=3, pause=0.2))
    assert [event["PayloadPart"]["Bytes"] for event in events] == [b"piece 0;", b"piece 1;", b"piece 2;"]


@pytest.mark.parametrize(("status", "whose"), [(400, "client"), (503, "server")])
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_what_the_container_refuses_is_a_model_error(
    hosting: Hosting, endpoint: str, status: int, whose: str, way: str
) -> None:
    error = error_of(lambda: getattr(hosting, way)(endpoint, status=status))
    assert (error["Code"], error["Status"], error["OriginalStatusCode"]) == ("ModelError", 424, status)
    assert json.loads(error["OriginalMessage"])["name"] == "main"
    assert f"Received {whose} error ({status}) from primary with message" in error["Message"]
    assert error["LogStreamArn"].endswith(f"log-group:/aws/sagemaker/Endpoints/{endpoint}")


def test_an_error_leads_to_what_the_container_wrote(hosting: Hosting, endpoint: str) -> None:
    error = error_of(lambda: hosting.invoke(endpoint, text="too much", status=400))
    group = error["LogStreamArn"].partition("log-group:")[2]
    eventually(lambda: "asked too much" in dict(hosting.logged(group)).values())
    (stream,) = (stream for stream, message in hosting.logged(group) if message == "asked too much")
    assert re.fullmatch("main/i-[0-9a-f]{17}", stream)


def test_a_call_that_takes_too_long_is_a_model_error(
    hosting: Hosting, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byollm.local.sagemaker.invocation.CALL_S", 0.2)
    error = error_of(lambda: hosting.invoke(endpoint, seconds=1))
    assert (error["Code"], error["OriginalStatusCode"]) == ("ModelError", 0)
    assert "Your invocation timed out while waiting for a response from container primary" in error["Message"]


def test_a_stream_that_takes_too_long_ends_with_an_error(
    hosting: Hosting, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byollm.local.sagemaker.invocation.STREAM_S", 1)
    with pytest.raises(EventStreamError, match=r"ModelStreamError.*took longer"):
        list(hosting.stream(endpoint, stream=100, pause=0.1))


def test_a_container_killed_in_the_middle_of_a_stream_is_a_stream_error_and_is_replaced(
    hosting: Hosting,
) -> None:
    endpoint = hosting.endpoint(hosting.variant())
    pid = hosting.invoke(endpoint)["pid"]
    stream = iter(hosting.stream(endpoint, stream=1000, pause=0.1))
    next(stream)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EventStreamError, match="ModelStreamError"):
        list(stream)
    eventually(lambda: answers_anew(hosting, endpoint, pid))
    assert hosting.status(endpoint) == "InService"
    hosting.delete(endpoint)


def answers_anew(hosting: Hosting, endpoint: str, before: int) -> bool:
    try:
        return bool(hosting.invoke(endpoint)["pid"] != before)
    except ClientError:
        return False


def test_a_container_killed_in_the_middle_of_a_call_is_an_internal_failure(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(hosting.variant())
    error = error_of(lambda: _invoke_and_kill(hosting, endpoint))
    assert (error["Code"], error["Status"]) == ("InternalFailure", 500)
    hosting.delete(endpoint)


def _invoke_and_kill(hosting: Hosting, endpoint: str) -> Any:
    pid = hosting.invoke(endpoint)["pid"]
    log = len(hosting.log(endpoint))

    def kill() -> None:
        eventually(lambda: "asked die" in hosting.log(endpoint)[log:])
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        return hosting.invoke(endpoint, text="die", seconds=60)
    finally:
        thread.join()


def test_a_client_that_goes_away_ends_the_containers_work(hosting: Hosting, endpoint: str) -> None:
    stream = hosting.stream(endpoint, stream=1000, pause=0.05)
    next(iter(stream))
    stream.close()
    eventually(lambda: "nobody listens" in hosting.log(endpoint))


def test_a_body_of_25_mb_goes_through_and_26_do_not(hosting: Hosting, endpoint: str) -> None:
    answer = hosting.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x" * 25 * 2**20)
    assert json.loads(answer["Body"].read())["length"] == 25 * 2**20
    error = error_of(lambda: hosting.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x" * 26 * 2**20))
    assert error["Status"] == 413
    assert "HTTP content length exceeded 26214400 bytes" in error["Message"]


def test_a_wrong_signature_is_refused(hosting: Hosting, endpoint: str) -> None:
    stranger = hosting.runtime_client("another secret")
    error = error_of(lambda: stranger.invoke_endpoint(EndpointName=endpoint, Body=b"{}"))
    assert (error["Code"], error["Status"]) == ("InvalidSignatureException", 403)
    assert "does not match the signature you provided" in error["Message"]


def test_a_changed_body_a_changed_header_and_an_old_signature_are_refused(
    hosting: Hosting, endpoint: str
) -> None:
    world = hosting.world
    url = f"{world.address}/endpoints/{endpoint}/invocations"

    def send(body: bytes = b"{}", age: timedelta = timedelta(), **changed: str) -> tuple[int, str]:
        signed = AWSRequest("POST", url, data=b"{}", headers={"x-amzn-sagemaker-session-id": "a"})
        auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "sagemaker", world.region)
        signed.context["timestamp"] = (datetime.now(UTC) - age).strftime("%Y%m%dT%H%M%SZ")
        signed.headers["X-Amz-Date"] = signed.context["timestamp"]
        text = auth.string_to_sign(signed, auth.canonical_request(signed))
        auth._inject_signature_to_request(signed, auth.signature(text, signed))
        answer = patient.post(url, content=body, headers={**dict(signed.headers), **changed})
        return answer.status_code, answer.json().get("Message", "")

    assert send()[0] == 200
    assert send(body=b"[]")[0] == 403
    assert send(**{"x-amzn-sagemaker-session-id": "b"})[0] == 403
    assert send(**{"x-amz-content-sha256": "44136fa355b3678a1146ad16f7e8649e"})[0] == 403
    assert "Signature expired" in send(age=timedelta(minutes=6))[1]
    assert "Signature not yet current" in send(age=timedelta(minutes=-6))[1]
    assert send(Authorization="AWS4-HMAC-SHA256 Credential=x/20260101/r/sagemaker/aws4_request")[0] == 403


def test_an_endpoint_that_is_not_there_is_told_apart(hosting: Hosting) -> None:
    error = error_of(lambda: hosting.invoke("nobody"))
    assert (error["Code"], error["Message"]) == (
        "ValidationError",
        "Endpoint nobody of account 123456789012 not found.",
    )


@pytest.mark.parametrize("member", ["TargetContainerHostname", "TargetModel"])
def test_what_is_not_emulated_is_refused_by_name(hosting: Hosting, endpoint: str, member: str) -> None:
    error = error_of(lambda: hosting.invoke(endpoint, **{member: "x"}))
    assert error["Code"] == "ValidationError"
    assert "is not emulated" in error["Message"]


def test_asynchronous_calls_are_refused_by_name(hosting: Hosting, endpoint: str) -> None:
    call = hosting.runtime.invoke_endpoint_async
    error = error_of(lambda: call(EndpointName=endpoint, InputLocation="s3://bucket/input"))
    assert (error["Code"], error["Message"]) == (
        "ValidationError",
        "InvokeEndpointAsync is not emulated (docs/local.md)",
    )


def test_more_calls_at_once_than_there_is_room_for_are_throttled(
    hosting: Hosting, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byollm.local.sagemaker.runtime.IN_FLIGHT", 0)
    error = error_of(lambda: hosting.invoke(endpoint))
    assert (error["Code"], error["Status"]) == ("ThrottlingException", 429)
