"""The front door: who comes in, and where requests go."""

import asyncio
from pathlib import Path

import httpx
import pytest
from botocore.exceptions import ClientError
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from byollm.local.door import Door, signed_for
from byollm.local.proxy import Proxy
from byollm.local.room import Room
from tests.local import patient
from tests.local.running import Platform

SIGNED = (
    "AWS4-HMAC-SHA256 Credential=key/20260101/ca-central-1/{}/aws4_request, SignedHeaders=host, Signature=0"
)


def ask(door: ASGIApp, **request: object) -> httpx.Response:
    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=door)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:4566") as client:
            return await client.request(**{"method": "GET", "url": "/", **request})  # type: ignore[arg-type]

    return asyncio.run(go())


@pytest.fixture
def door() -> Door:
    services = {"ecs": PlainTextResponse("ours")}
    return Door(services, PlainTextResponse("rest"), {"ready": True}, Room(Path.cwd()))


def test_requests_go_where_their_signature_says(door: Door) -> None:
    assert ask(door, headers={"authorization": SIGNED.format("ecs")}).text == "ours"
    assert ask(door, headers={"authorization": SIGNED.format("s3")}).text == "rest"
    presigned = "/?X-Amz-Credential=key%2F20260101%2Fca-central-1%2Fecs%2Faws4_request"
    assert ask(door, url=presigned).text == "ours"


def test_what_is_not_signed_goes_to_the_rest(door: Door) -> None:
    assert ask(door, url="/bucket/object").text == "rest"
    assert ask(door, headers={"authorization": "Basic ecs"}).text == "rest"


def test_what_only_the_emulator_has_goes_to_its_service_unsigned(door: Door) -> None:
    assert ask(door, url="/_byollm/ecs/anything").text == "ours"
    assert ask(door, url="/_byollm/none/anything").text == "rest"


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:4566", "127.0.0.2", "[::1", ""])
def test_another_host_is_refused(door: Door, host: str) -> None:
    assert ask(door, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:4566", "LOCALHOST:1", "bucket.localhost:4566"])
def test_this_machine_may_come_in(door: Door, host: str) -> None:
    assert ask(door, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
)
def test_pages_of_others_are_refused(door: Door, headers: dict[str, str]) -> None:
    assert ask(door, headers=headers).status_code == 403
    assert ask(door, headers={"origin": "http://localhost:7860"}).status_code == 200


def test_a_signature_for_nothing_is_none() -> None:
    scope = {"type": "http", "headers": [(b"authorization", b"Credential=//")], "query_string": b""}
    assert signed_for(Request(scope)) is None


def test_a_body_that_is_too_long_is_refused(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path / "nobody", max_body=10)
    assert ask(proxy, method="PUT", content=b"12345678901").status_code == 413


def test_a_child_that_does_not_answer_is_a_503(tmp_path: Path) -> None:
    assert ask(Proxy(tmp_path / "nobody"), method="PUT", content=b"1").status_code == 503


def test_objects_come_and_go_whole(platform: Platform) -> None:
    s3 = platform.client("s3")
    s3.create_bucket(Bucket="door", CreateBucketConfiguration={"LocationConstraint": "ca-central-1"})
    body = bytes(range(256)) * 40_000  # 10 MB: more than one multipart part
    s3.put_object(Bucket="door", Key="a b/+ü%2F?", Body=body)
    assert s3.get_object(Bucket="door", Key="a b/+ü%2F?")["Body"].read() == body
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "door", "Key": "a b/+ü%2F?"})
    assert patient.get(url).content == body
    assert patient.get(url + "0").status_code == 403  # its signature is checked
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket="door", Key="missing")
    assert error.value.response["Error"]["Code"] == "404"


def test_an_answer_has_one_date(platform: Platform) -> None:
    # The CDK's client computes the time of invalid dates otherwise.
    answer = patient.get(platform.address)
    assert len(answer.headers.get_list("date")) == 1
