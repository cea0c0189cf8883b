"""A model directory becomes files in S3 under a name of their content."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from byollm.aws import AwsError, Clients
from byollm.lifecycle import LifecycleError, ModelFolder

BUCKET = "models"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        clients = Clients("us-east-1")
        clients.client("s3").create_bucket(Bucket=BUCKET)
        yield clients


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "one.safetensors").write_bytes(b"more")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "secret").write_text("not for S3")
    return tmp_path


def keys(clients: Clients) -> list[str]:
    found = clients.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return sorted(one["Key"] for one in found)


def test_files_lie_uncompressed_under_their_content(clients: Clients, directory: Path) -> None:
    folder = ModelFolder.read(directory)
    told: list[int] = []
    uri = folder.upload(clients, BUCKET, told.append)
    prefix = f"versions/{folder.content}/"
    assert uri == f"s3://{BUCKET}/{prefix}"
    assert keys(clients) == [
        f"manifests/{folder.content}.json",
        *(prefix + name for name in ("adapters/one.safetensors", "config.json", "model.safetensors")),
    ]
    assert sum(told) == folder.size == 13
    manifest = clients.client("s3").get_object(Bucket=BUCKET, Key=f"manifests/{folder.content}.json")
    assert json.loads(manifest["Body"].read())["files"]["model.safetensors"]["size"] == 7


def test_another_content_has_another_name(clients: Clients, directory: Path) -> None:
    before = ModelFolder.read(directory).content
    (directory / "model.safetensors").write_bytes(b"weightz")
    assert ModelFolder.read(directory).content != before
    (directory / "model.safetensors").write_bytes(b"weights")
    assert ModelFolder.read(directory).content == before


def test_what_is_there_is_not_sent_again_after_an_interruption(
    clients: Clients, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = clients.client("s3")
    sent: list[str] = []
    real = s3.upload_file

    def upload_file(path: str, bucket: str, key: str, **more: Any) -> None:
        if len(sent) == 2 and not over:
            raise KeyboardInterrupt
        sent.append(key.rpartition("/")[2])
        real(path, bucket, key, **more)

    over: list[bool] = []
    monkeypatch.setattr(s3, "upload_file", upload_file)
    folder = ModelFolder.read(directory)
    with pytest.raises(KeyboardInterrupt):
        folder.upload(clients, BUCKET)
    assert not any(key.startswith("manifests/") for key in keys(clients))  # it says that all is there
    over.append(True)
    told: list[int] = []
    folder.upload(clients, BUCKET, told.append)
    folder.upload(clients, BUCKET)
    assert sent == ["one.safetensors", "config.json", "model.safetensors"]
    assert sum(told) == folder.size


@pytest.mark.parametrize("files", [[], ["README.md"], ["config.json"], ["model.safetensors"]])
def test_what_is_no_model_is_refused(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(LifecycleError, match=r"expected a Hugging Face model directory.*config\.json"):
        ModelFolder.read(tmp_path)
    with pytest.raises(LifecycleError, match="no such directory"):
        ModelFolder.read(tmp_path / "absent")


def test_a_bucket_that_is_not_there_is_told_of(clients: Clients, directory: Path) -> None:
    with pytest.raises(AwsError, match=r"ListObjectsV2.*NoSuchBucket"):
        ModelFolder.read(directory).upload(clients, "absent")
