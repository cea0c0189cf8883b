"""`byollm quantize` as people run it: from and to directories, S3 and the Hub, and through a kill -9."""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from typer.testing import CliRunner

from byollm.aws import AwsError, Clients, S3Folder
from byollm.cli.main import app
from byollm.cli.model_source import SourceError
from byollm.modeling import CheckpointError, Tokenizer, load_decoder
from tests.doctor.support import BUNDLED
from tests.modeling.packing.support import contents, write_model

REGION = "ca-central-1"
COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def _nothing_prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BYOLLM__DATA__OUTPUT", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_model(tmp_path_factory.mktemp("models") / "mine")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, directory)
    return directory


def quantize(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["quantize", *map(str, arguments)])


def done(*arguments: object) -> str:
    ran = quantize(*arguments)
    assert ran.exit_code == 0, (ran.output, ran.exception)
    return str(ran.output)


def test_the_bundled_model_is_packed_and_loads_with_its_tokenizer(tmp_path: Path) -> None:
    said = done(BUNDLED, tmp_path / "out", "--scheme", "int8", "--group", 64)
    assert "3,147,968 parameters" in said
    assert "6.3 MB before and 3.2 MB after" in said
    assert "bits per weight" in said
    assert load_decoder(tmp_path / "out").config == load_decoder(BUNDLED).config
    assert Tokenizer.load(tmp_path / "out").encode("Once") == Tokenizer.load(BUNDLED).encode("Once")


@pytest.mark.parametrize("group", [33, 0])
def test_a_group_that_is_none_is_refused(tmp_path: Path, group: int) -> None:
    ran = quantize(BUNDLED, tmp_path / "out", "--group", group)
    assert ran.exit_code == 2
    assert "multiple of 32" in ran.output


def test_scales_of_nf4_are_rounded_too_where_qlora_did(model: Path, tmp_path: Path) -> None:
    done(model, tmp_path / "out", "--scheme", "nf4", "--double-quant")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"]["double"] is True
    scheme = load_decoder(tmp_path / "out").scheme
    assert scheme is not None
    assert scheme.double
    ran = quantize(model, tmp_path / "other", "--scheme", "int4", "--double-quant")
    assert ran.exit_code == 2
    assert "double quantisation is for nf4" in " ".join(ran.output.replace("│", " ").split())


def test_nf4_is_not_calibrated(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Once upon a time")
    ran = quantize(BUNDLED, tmp_path / "out", "--scheme", "nf4", "--calibrate", tmp_path / "text")
    assert ran.exit_code == 2
    assert "for int4 and int8" in " ".join(ran.output.replace("│", " ").split())  # in a box that wraps


DIES = """
import os, signal, sys

def watch(event, details):
    if event == "os.rename" and ".partial" in str(details[0]):  # a shard is written, and not yet in its place
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
from byollm.cli.main import main
main()
"""


def test_killed_from_outside_it_goes_on_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    done(model, tmp_path / "undisturbed")
    out, space = tmp_path / "out", tmp_path / ".out.quantizing"
    command = [sys.executable, "-c", DIES, "quantize", str(model), str(out)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(space.glob(".*.partial"))
    assert not out.exists()
    done(model, out)
    same = contents(tmp_path / "undisturbed")
    del same["README.md"], same["SHA256SUMS"]  # the directory's name is in them
    assert same.items() <= contents(out).items()
    assert not space.exists()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket in an emulated S3."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        s3 = boto3.resource("s3", region_name=REGION)
        yield s3.create_bucket(
            Bucket="models-of-mine", CreateBucketConfiguration={"LocationConstraint": REGION}
        )


def upload(directory: Path, bucket: Any, prefix: str) -> str:
    for path in directory.iterdir():
        bucket.upload_file(str(path), f"{prefix}/{path.name}")
    return f"s3://{bucket.name}/{prefix}"


def objects(bucket: Any, prefix: str) -> dict[str, bytes]:
    found = bucket.objects.filter(Prefix=f"{prefix}/")
    return {each.key.removeprefix(f"{prefix}/"): each.get()["Body"].read() for each in found}


def test_from_s3_to_s3_the_bytes_are_those_of_directories(model: Path, bucket: Any, tmp_path: Path) -> None:
    done(model, tmp_path / "packed")
    source = upload(model, bucket, "float")
    done(source, f"s3://{bucket.name}/packed")
    there = objects(bucket, "packed")
    here = {path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()}
    assert there.keys() == here.keys()
    different = {name for name in here if here[name] != there[name]}
    assert different <= {"README.md", "quantization.json", "SHA256SUMS"}  # the source is named in them
    assert f"`{source}`" in there["README.md"].decode()
    assert not list((tmp_path / "cache" / "byollm").iterdir())  # nothing stays behind
    assert "is there already" in done(source, f"s3://{bucket.name}/packed")


def test_an_upload_that_broke_off_goes_on(
    model: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, sent = S3Folder.put, []

    def break_off(self: S3Folder, path: Path, *rest: Any) -> None:
        if path.name == "quantization.json":
            raise KeyboardInterrupt
        sent.append(path.name)
        put(self, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(S3Folder, "put", break_off)
        assert quantize(model, f"s3://{bucket.name}/packed").exit_code != 0
    assert sent
    assert "SHA256SUMS" not in objects(bucket, "packed")
    done(model, f"s3://{bucket.name}/packed")
    done(model, tmp_path / "packed")
    assert objects(bucket, "packed") == {
        path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()
    }


def test_a_prefix_that_holds_something_else_is_left_alone(model: Path, bucket: Any) -> None:
    bucket.put_object(Key="taken/thesis.tex", Body=b"years of work")
    ran = quantize(model, f"s3://{bucket.name}/taken")
    assert "holds something else" in str(ran.exception)
    assert objects(bucket, "taken") == {"thesis.tex": b"years of work"}


def test_places_in_s3_that_cannot_be_had(model: Path, bucket: Any, tmp_path: Path) -> None:
    for source, reason in (
        (f"s3://{bucket.name}/nothing", "config.json is absent"),
        ("s3://no-such-bucket-here/x", "there is no bucket no-such-bucket-here"),
        ("s3://No_Bucket/x", "no place in S3"),
    ):
        ran = quantize(source, tmp_path / "out")
        assert isinstance(ran.exception, AwsError | CheckpointError)
        assert reason in str(ran.exception)


def test_what_iam_does_not_allow_is_named(
    model: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading needs s3:GetObject; the emulated IAM refuses who has it not, with a 403."""
    source = upload(model, bucket, "float")
    iam = boto3.client("iam", region_name=REGION)
    iam.create_user(UserName="guest")
    allowed = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [allowed]}
    iam.put_user_policy(UserName="guest", PolicyName="list", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="guest")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    ran = set_initial_no_auth_action_count(0)(quantize)(source, tmp_path / "out")
    assert isinstance(ran.exception, AwsError)
    assert f"{source}: not allowed: " in str(ran.exception)
    assert "GetObject" in str(ran.exception)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    model: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ReadTimeoutError
    from botocore.response import StreamingBody

    folder = S3Folder(Clients(REGION), upload(model, bucket, "float"))
    whole, breaks = StreamingBody.iter_chunks, iter([True, True, False])

    def breaking(self: StreamingBody, size: int) -> Iterator[bytes]:
        chunks = whole(self, 1000)
        yield next(chunks)
        if next(breaks, False):
            raise ReadTimeoutError(endpoint_url="s3")
        yield from chunks

    monkeypatch.setattr(StreamingBody, "iter_chunks", breaking)
    file = "tokenizer.json"
    assert b"".join(folder.chunks(file, 5, 90_000)) == (model / file).read_bytes()[5:90_000]
    breaks = iter([True] * 9)
    with pytest.raises(AwsError, match="float: AWS cannot be reached"):
        list(folder.chunks(file))


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as Hugging Face's Hub answers: a model, one behind a gate, and no others."""

    model: Path

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if "/api/models/me/mine/tree/" in self.path:
            files = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
                for path in self.model.iterdir()
            ]
            self._answer(200, json.dumps(files).encode())
        elif self.path.startswith("/api/models/me/mine"):
            self._answer(200, json.dumps({"id": "me/mine", "sha": COMMIT}).encode())
        elif parts[:2] == ["me", "mine"]:
            self._answer(200, (self.model / parts[-1]).read_bytes())
        elif "gated" in self.path:
            self._answer(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        usual = {"X-Repo-Commit": COMMIT, "ETag": f'"{hash(self.path)}"'}
        for name, value in (usual | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(model: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which the Hub's own client finds ours."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Ours", (Hub,), {"model": model}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_ETAG_TIMEOUT": "60",  # the client's own patience is 10 s, which a busy machine may take
        "HF_HUB_DOWNLOAD_TIMEOUT": "60",
        "HF_HOME": str(tmp_path / "hub"),
    }
    server.shutdown()
    thread.join()
    server.server_close()


def run_with(hub: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "byollm", "quantize", *arguments]
    return subprocess.run(command, env=hub, capture_output=True, text=True, check=False)


def test_a_model_of_the_hub_is_downloaded_and_named(hub: dict[str, str], model: Path, tmp_path: Path) -> None:
    ran = run_with(hub, "me/mine", str(tmp_path / "out"))
    assert ran.returncode == 0, ran.stderr
    assert "`me/mine` (qwen3)" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("me/gated", "it is gated. Accept the terms"), ("me/other", "none of this name")],
)
def test_what_the_hub_refuses_is_told_with_the_remedy(
    hub: dict[str, str], tmp_path: Path, name: str, reason: str
) -> None:
    ran = run_with(hub, name, str(tmp_path / "out"))
    assert ran.returncode == 1
    assert reason in ran.stderr
    assert "Traceback" not in ran.stderr


def test_without_a_network_the_hub_cannot_be_reached(tmp_path: Path) -> None:
    ran = quantize("me/mine", tmp_path / "out")
    assert isinstance(ran.exception, SourceError)
    assert "the Hub cannot be reached" in str(ran.exception)


def test_names_that_can_be_no_model(tmp_path: Path) -> None:
    for name in ("models/of/nobody", "../nothing", str(BUNDLED / "config.json")):
        ran = quantize(name, tmp_path / "out")
        assert isinstance(ran.exception, SourceError)
        assert "no such directory" in str(ran.exception)
