"""Images built by CodeBuild: real archives of real checkouts in moto's S3; CodeBuild itself is played."""

import json
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from rich.console import Console

from byollm.cli import remote_images
from byollm.cli.remote_images import RemoteImageError, build_remotely, pack
from byollm.doctor import Patient
from tests.doctor.support import connect, patient

BUCKET = "byollm-dev-storage-artefacts"
MADE = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": BUCKET}}
STORAGE = json.dumps({"Resources": {"ArtefactsBucket": MADE}})
QUIET = Console(quiet=True)


class ResourceNotFoundException(Exception):
    pass


@dataclass
class CodeBuild:
    """A project whose builds end as they are told to."""

    status: str = "SUCCEEDED"
    project: bool = True
    phases: list[str] = field(default_factory=lambda: ["QUEUED", "BUILD"])
    told: dict[str, str] = field(default_factory=dict)

    @dataclass
    class exceptions:
        ResourceNotFoundException = ResourceNotFoundException

    def start_build(self, *, projectName: str, environmentVariablesOverride: list[dict[str, str]]) -> Any:
        if not self.project:
            raise ResourceNotFoundException
        assert projectName == "byollm-dev-images"
        self.told = {each["name"]: each["value"] for each in environmentVariablesOverride}
        return {"build": self._build("SUBMITTED")}

    def batch_get_builds(self, ids: list[str]) -> Any:
        assert ids == ["byollm-dev-images:1"]
        return {"builds": [self._build(self.phases.pop(0) if self.phases else None)]}

    def _build(self, phase: str | None) -> dict[str, Any]:
        build = {"id": "byollm-dev-images:1", "buildStatus": "IN_PROGRESS" if phase else self.status}
        return build | {
            "currentPhase": phase or "COMPLETED",
            "logs": {"deepLink": "https://console.aws.amazon.com/log"},
            "phases": [{"contexts": [{"message": "no space left on device"}]}] if not phase else [],
            "exportedEnvironmentVariables": [
                {"name": "GATEWAY", "value": "sha256:1"},
                {"name": "FRONTEND", "value": "sha256:2"},
            ],
        }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a committed program, one not yet committed, one removed, and one that is ignored."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "gone").write_text("x")
    (tmp_path / ".gitignore").write_text("secret\n")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_text("new")
    (tmp_path / "secret").write_text("key")
    return tmp_path


@pytest.fixture
def codebuild() -> CodeBuild:
    return CodeBuild()


@pytest.fixture
def who(checkout: Path, codebuild: CodeBuild, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    monkeypatch.setattr(remote_images, "LOOK_S", 0.0)
    with mock_aws():
        cloud = boto3.client("cloudformation", region_name="ca-central-1")
        cloud.create_stack(StackName="byollm-dev-storage", TemplateBody=STORAGE)

        def clients(service: str, region: str) -> Any:
            return codebuild if service == "codebuild" else connect(service, region)

        yield replace(patient(), connect=clients, repository=checkout)


def test_the_checkout_is_sent_and_the_digests_come_back(who: Patient, codebuild: CodeBuild) -> None:
    assert build_remotely(who, QUIET, ["gateway"]) == {"gateway": "sha256:1"}
    sent = who.client("s3").get_object(Bucket=BUCKET, Key="images/source.zip")["Body"].read()
    with zipfile.ZipFile(BytesIO(sent)) as archive:
        assert archive.namelist() == [".gitignore", "new", "program"]
        assert archive.getinfo("program").external_attr >> 16 == 0o755
    assert codebuild.told["RUNTIME"] == "cuda"  # as the instances of the endpoint have GPUs
    assert codebuild.told["ENVIRONMENT"] == "dev"


def test_the_same_content_is_the_same_revision(checkout: Path, tmp_path: Path) -> None:
    first, second = tmp_path / ".git" / "1.zip", tmp_path / ".git" / "2.zip"
    revision = pack(checkout, first)
    assert pack(checkout, second) == revision
    assert first.read_bytes() == second.read_bytes()
    (checkout / "program").chmod(0o644)
    assert pack(checkout, second) != revision


def test_a_build_that_fails_says_why_and_where_its_log_is(who: Patient, codebuild: CodeBuild) -> None:
    codebuild.status = "FAILED"
    with pytest.raises(RemoteImageError, match=r"FAILED: no space left on device; see the log https://"):
        build_remotely(who, QUIET, ["gateway"])


def test_a_build_that_tells_no_digest_is_not_taken_for_one(who: Patient) -> None:
    with pytest.raises(RemoteImageError, match="no digest of inference"):
        build_remotely(who, QUIET, ["inference", "gateway"])


def test_an_environment_with_a_pipeline_has_no_such_project(who: Patient, codebuild: CodeBuild) -> None:
    codebuild.project = False
    with pytest.raises(RemoteImageError, match=r"pipeline.*--skip-images"):
        build_remotely(who, QUIET, ["gateway"])


def test_what_is_no_checkout_is_not_guessed_at(
    who: Patient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = replace(who, repository=tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(RemoteImageError, match="no git checkout"):
        build_remotely(elsewhere, QUIET, ["gateway"])
