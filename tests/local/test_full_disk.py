"""A disk that is really full: what there is no room for is refused in words that help, all else goes on."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from starlette.responses import PlainTextResponse

from byollm.local.container_init import BoundedLog
from byollm.local.door import Door
from byollm.local.launch import LocalError, launch
from byollm.local.log_lines import LogLines, Place
from byollm.local.room import KEPT_BYTES, MIB, Room
from byollm.local.sagemaker.model_files import ModelFiles, ModelFilesError
from byollm.local.store import Store
from byollm.local.world import ACCESS_KEY, SECRET_KEY
from tests.local.disk import MakeDisk, make_disk
from tests.local.front import Front
from tests.local.running import Platform, eventually, start_platform
from tests.local.sagemaker.hosting import IMAGE, ROLE, TYPE, write_images
from tests.local.test_door import SIGNED, ask
from tests.ports import free_port

__all__ = ["make_disk"]


def on_disk(path: Path) -> dict[str, Any]:
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT name, body FROM documents").fetchall()
    return {name: json.loads(body) for name, body in rows}


def test_a_store_goes_on_in_memory_and_catches_up(make_disk: MakeDisk) -> None:
    disk = make_disk(4)
    path = disk.path / "a.sqlite"
    store = Store(path)
    store.put("endpoint", "old", {"n": 1})
    store.put("endpoint", "gone", {"n": 1})
    disk.fill()
    body = {"text": "x" * MIB}
    store.put("endpoint", "new", body)
    store.put("endpoint", "old", {"n": 2})
    assert store.delete("endpoint", "gone")
    assert not store.delete("endpoint", "gone")
    assert store.get("endpoint", "new") == body
    assert store.get("endpoint", "gone") is None
    assert list(store.list("endpoint")) == [body, {"n": 2}]
    assert on_disk(path) == {"old": {"n": 1}, "gone": {"n": 1}}
    disk.clear()
    eventually(lambda: on_disk(path) == {"old": {"n": 2}, "new": body})
    store.put("endpoint", "newer", {})
    assert "newer" in on_disk(path)
    store.close()


def test_a_log_loses_lines_and_never_half_a_line(make_disk: MakeDisk) -> None:
    disk = make_disk(1)
    log = BoundedLog(disk.path / "a.log")
    log.write(b"before\n")
    disk.fill(leave=8192)
    for _ in range(10):
        log.write(b"x" * 3000 + b"\n")
    disk.clear()
    log.write(b"after\n")
    lines = [line.text for line in LogLines(disk.path / "a.log", Place()).read()]
    assert (lines[0], lines[-1]) == ("before", "after")
    assert set(lines[1:-1]) <= {"x" * 3000}
    assert len(lines) < 12


def test_a_model_that_does_not_fit_is_no_model(front: Front, make_disk: MakeDisk) -> None:
    disk = make_disk(8)
    with front(disk.path, lambda world: {}) as world:
        s3 = world.client("s3")
        s3.create_bucket(Bucket="full", CreateBucketConfiguration={"LocationConstraint": world.region})
        for name in "ab":
            s3.put_object(Bucket="full", Key=f"m/{name}", Body=bytes(2 * MIB))
        files = ModelFiles(world)
        disk.fill(leave=3 * MIB)
        with pytest.raises(ModelFilesError, match=f"the disk of {disk.path} is full; make room there"):
            files.fetch("s3://full/m/", archive=False)
        assert list((disk.path / "models").iterdir()) == []
        disk.clear()
        assert [path.stat().st_size for path in files.fetch("s3://full/m/", archive=False).iterdir()] == [
            2 * MIB
        ] * 2


def test_it_does_not_start_where_there_is_too_little_room(make_disk: MakeDisk) -> None:
    place = make_disk(32).path / "aws"
    with pytest.raises(
        LocalError, match=rf"the disk of {place} is full: \d+ MiB are free and 256 MiB needed"
    ):
        launch(place, port=free_port(), region="ca-central-1", factor=1)
    assert not place.exists()


@pytest.mark.parametrize(
    ("method", "path", "operation", "service", "refused"),
    [
        ("PUT", "/bucket/object", "", "s3", True),
        ("GET", "/bucket/object", "", "s3", False),
        ("POST", "/bucket?delete", "", "s3", False),
        ("POST", "/", "SageMaker.CreateEndpoint", "sagemaker", True),
        ("POST", "/", "SageMaker.DeleteEndpoint", "sagemaker", False),
        ("POST", "/", "SageMaker.UpdateEndpointWeightsAndCapacities", "sagemaker", False),
        ("POST", "/endpoints/e/invocations", "", "sagemaker", False),
    ],
)
def test_only_what_fills_the_disk_is_refused(
    make_disk: MakeDisk, method: str, path: str, operation: str, service: str, refused: bool
) -> None:
    disk = make_disk(1)
    rest = PlainTextResponse("rest")
    door = Door({"sagemaker": rest}, rest, {"ready": True}, Room(disk.path))
    signed = {"authorization": SIGNED.format(service), "x-amz-target": operation}
    answer = ask(door, method=method, url=path, headers=signed, content=bytes(100_000))
    assert (answer.status_code == 500) is refused
    assert ("Internal" in answer.text) is refused


def test_the_platform_goes_on_and_takes_more_once_there_is_room(make_disk: MakeDisk) -> None:
    disk = make_disk(200)
    place = disk.path / "aws"
    place.mkdir()
    write_images(place)
    platform = start_platform(place)
    try:
        s3, sagemaker = once(platform, "s3"), once(platform, "sagemaker")
        s3.create_bucket(Bucket="full-disk", CreateBucketConfiguration={"LocationConstraint": "ca-central-1"})
        s3.put_object(Bucket="full-disk", Key="kept", Body=b"first")
        create(sagemaker, "first")
        eventually(lambda: status(sagemaker, "first") == "InService")

        disk.fill(leave=KEPT_BYTES - MIB)
        for key in ("kept", "new"):
            refused = refusal(s3.put_object, Bucket="full-disk", Key=key, Body=bytes(MIB))
            assert refused["Error"]["Code"] == "InternalError"
            assert f"the disk of {place} is full" in refused["Error"]["Message"]
        refused = refusal(create, sagemaker, "second")
        assert refused["Error"]["Code"] == "InternalFailure"
        assert refused["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert f"the disk of {place} is full" in refused["Error"]["Message"]

        disk.fill()
        for key in ("kept", "small"):
            refused = refusal(s3.put_object, Bucket="full-disk", Key=key, Body=b"second")
            assert refused["Error"]["Code"] == "InternalError"
        assert read(s3, "kept") == b"first"
        assert [one["Key"] for one in s3.list_objects_v2(Bucket="full-disk")["Contents"]] == ["kept"]
        assert status(sagemaker, "first") == "InService"
        answered = once(platform, "sagemaker-runtime").invoke_endpoint(EndpointName="first", Body=b"{}")
        assert json.loads(answered["Body"].read())["length"] == 2
        sagemaker.add_tags(
            ResourceArn=sagemaker.describe_endpoint(EndpointName="first")["EndpointArn"],
            Tags=[{"Key": "said", "Value": "while full"}],
        )

        disk.clear()
        s3.put_object(Bucket="full-disk", Key="kept", Body=b"third")
        create(sagemaker, "second")
        eventually(lambda: status(sagemaker, "second") == "InService")
        eventually(lambda: b"while full" in (place / "sagemaker.sqlite-wal").read_bytes())
        platform.stop()
        platform = start_platform(place, platform.port)
        s3, sagemaker = once(platform, "s3"), once(platform, "sagemaker")
        assert read(s3, "kept") == b"third"
        eventually(lambda: {status(sagemaker, name) for name in ("first", "second")} == {"InService"})
    finally:
        platform.stop()


def once(platform: Platform, service: str) -> Any:
    """A client that is told the first time."""
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="ca-central-1")
    config = Config(retries={"total_max_attempts": 1})
    return session.client(service, endpoint_url=platform.address, config=config)


def create(sagemaker: Any, name: str) -> None:
    if name == "first":
        sagemaker.create_model(ModelName="m", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": TYPE, "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c")


def status(sagemaker: Any, name: str) -> str:
    return str(sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])


def read(s3: Any, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket="full-disk", Key=key)["Body"].read()
    return body


def refusal(call: Any, *given: Any, **members: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as error:
        call(*given, **members)
    found: dict[str, Any] = error.value.response
    return found
