"""A model directory becomes a release."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from typer.testing import CliRunner

from byollm.cli import model_source, release
from byollm.cli.main import app
from tests.cli.test_images import registry
from tests.doctor.support import BUNDLED, connect

REGION = "ca-central-1"
STORAGE = json.dumps(
    {"Resources": {"Models1A2B": {"Type": "AWS::S3::Bucket"}, "Data": {"Type": "AWS::S3::Bucket"}}}
)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An account with credentials; what would have been released is noted."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(release, "release", lambda patient, console, **given: asked.append(given))
    with mock_aws():
        yield asked


def publish(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["publish", *arguments])


def test_the_bundled_model_is_uploaded_once_and_released_on_the_newest_image(released: Any) -> None:
    connect("cloudformation", REGION).create_stack(StackName="byollm-dev-storage", TemplateBody=STORAGE)
    digest = registry("one", image="inference")
    for _ in range(2):
        ran = publish()
        assert ran.exit_code == 0, (ran.output, ran.exception)
    assert released[0] == released[1]
    assert released[0]["image"].endswith(f"@{digest}")
    assert released[0]["variant"] == "main"
    bucket, prefix = released[0]["model"].removeprefix("s3://").split("/", 1)
    assert "models1a2b" in bucket.lower()
    objects = connect("s3", REGION).list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    there = {each["Key"].removeprefix(prefix): each["Size"] for each in objects}
    assert there["model.safetensors"] == (BUNDLED / "model.safetensors").stat().st_size


def test_a_model_of_the_hub_is_released_as_its_cache_has_it(
    released: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("cloudformation", REGION).create_stack(StackName="byollm-dev-storage", TemplateBody=STORAGE)
    registry("one", image="inference")
    for file in BUNDLED.iterdir():  # as the Hub's client keeps it: names that lead to contents elsewhere
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.setattr(model_source, "_from_hub", {"somebody/tiny": tmp_path}.__getitem__)
    ran = publish("somebody/tiny")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    bucket, prefix = released[0]["model"].removeprefix("s3://").split("/", 1)
    listed = connect("s3", REGION).list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    assert {each["Key"].removeprefix(prefix) for each in listed} >= {"config.json", "model.safetensors"}


KMS = (
    "<Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::123456789012:user/me is not authorized to "
    "perform: kms:GenerateDataKey on resource: arn:aws:kms:ca-central-1:123456789012:key/1 because no "
    "identity-based policy allows the kms:GenerateDataKey action</Message></Error>"
)


class Denying(BaseHTTPRequestHandler):
    """A bucket whose key the caller may not use: it holds nothing, and takes nothing."""

    def do_HEAD(self) -> None:
        self._answer(404, b"")

    def do_GET(self) -> None:
        self._answer(200, b"<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(403, KMS.encode())

    do_POST = do_PUT

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_key_that_may_not_be_used_is_named_and_nothing_is_released(
    released: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect("cloudformation", REGION).create_stack(StackName="byollm-dev-storage", TemplateBody=STORAGE)
    registry("one", image="inference")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Denying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    ran = publish()
    server.shutdown()
    assert ran.exit_code == 1
    assert "not allowed: kms:GenerateDataKey" in str(ran.exception) + ran.output
    assert released == []


def test_a_packed_model_is_published_with_all_its_files(
    released: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOLLM__DATA__OUTPUT", str(tmp_path / "none"))
    connect("cloudformation", REGION).create_stack(StackName="byollm-dev-storage", TemplateBody=STORAGE)
    registry("one", image="inference")
    ran = CliRunner().invoke(app, ["quantize", str(BUNDLED), str(tmp_path / "packed")])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    ran = publish(str(tmp_path / "packed"))
    assert ran.exit_code == 0, (ran.output, ran.exception)
    bucket, prefix = released[0]["model"].removeprefix("s3://").split("/", 1)
    objects = connect("s3", REGION).list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    there = {each["Key"].removeprefix(prefix): each["Size"] for each in objects}
    assert there == {path.name: path.stat().st_size for path in (tmp_path / "packed").iterdir()}

    weights = tmp_path / "packed" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    ran = publish(str(tmp_path / "packed"))
    assert "model.safetensors: is absent or not what SHA256SUMS says" in str(ran.exception)


def test_before_a_deployment_it_says_to_deploy(released: Any) -> None:
    registry("one", image="inference")
    ran = publish()
    assert ran.exit_code == 1
    assert "byollm deploy --env dev" in str(ran.exception)
    assert not released


def test_what_is_no_model_is_refused(released: Any, tmp_path: Path) -> None:
    registry("one", image="inference")
    ran = publish(str(tmp_path))
    assert ran.exit_code == 1
    assert "config.json" in str(ran.exception)


def test_an_interruption_says_that_the_release_goes_on(
    released: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("byollm.cli.publish.publish_model", interrupted)
    ran = publish()
    assert ran.exit_code == 130
    assert "goes on" in ran.output
