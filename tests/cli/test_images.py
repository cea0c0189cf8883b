"""Images are built once, pushed once, and known by the registry's digest."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws
from rich.console import Console

from byollm.cli import images
from byollm.cli.images import ImageError, address, build_and_push, newest
from byollm.doctor import Patient
from tests.doctor.support import connect, patient

REGION = "ca-central-1"

# What an engine does, as far as we ask: it keeps a log; a push puts the manifest that the test wrote.
ENGINE = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$1 $2" in
  "info "*) exit {info} ;;
  "login "*) cat > {password} ;;
  "image inspect") echo sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef ;;
  "push "*) echo "pushing" ; exit {push} ;;
esac
"""
BUILD = """#!/bin/sh
echo "build $IMAGE $CONTAINER $RUNTIME" >> {log}
exit {build}
"""


class Machine:
    """A machine with container engines that only note what they are asked."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.log = directory, directory / "log"
        self.log.touch()
        (directory / "bin").mkdir()
        (directory / "scripts").mkdir()
        monkeypatch.setenv("PATH", f"{directory / 'bin'}:/usr/bin:/bin")

    def has(self, *engines: str, info: int = 0, push: int = 0, build: int = 0) -> Patient:
        given = {"log": self.log, "password": self.directory / "password", "info": info, "push": push}
        for path, script in (
            *((self.directory / "bin" / engine, ENGINE) for engine in engines),
            (self.directory / "scripts" / "image", BUILD),
        ):
            path.write_text(script.format(**given, build=build))
            path.chmod(0o755)
        return replace(patient(), repository=self.directory)

    @property
    def said(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with mock_aws():
        yield Machine(tmp_path, monkeypatch)


def registry(tag: str | None = None, image: str = "gateway") -> str:
    """Make a repository, with an image of that tag in it; return its digest."""
    ecr = connect("ecr", REGION)
    ecr.create_repository(repositoryName=f"byollm-dev/{image}")
    if tag is None:
        return ""
    media = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": media, "config": {"digest": "sha256:0", "size": 1}, "layers": []}
    )
    there = ecr.put_image(repositoryName=f"byollm-dev/{image}", imageManifest=manifest, imageTag=tag)
    digest: str = there["image"]["imageId"]["imageDigest"]
    return digest


def test_what_the_registry_has_is_not_pushed_again(machine: Machine) -> None:
    digest = registry("0123456789abcdef0123456789abcdef")
    who = machine.has("docker")
    assert build_and_push(who, Console(quiet=True), ["gateway"]) == {"gateway": digest}
    assert [line.split()[0:2] for line in machine.said] == [
        ["docker", "info"],
        ["docker", "login"],
        ["build", "byollm-gateway"],
        ["docker", "image"],
    ]
    assert "gateway cuda" in machine.said[2]  # as the instances of the endpoint have GPUs
    assert (machine.directory / "password").read_text()  # on standard input, not in the list of processes


def test_what_it_has_not_is_pushed_under_a_tag_of_its_content(machine: Machine) -> None:
    registry()
    who = machine.has("podman")
    with pytest.raises(ImageError, match="does not have the image"):  # this engine pushes nothing
        build_and_push(who, Console(quiet=True), ["gateway"])
    assert machine.said[-2].startswith("podman tag byollm-gateway ")
    assert machine.said[-1].endswith("/byollm-dev/gateway:0123456789abcdef0123456789abcdef")


@pytest.mark.parametrize(
    ("faults", "words"),
    [({"build": 3}, r"building failed .*status 3"), ({"push": 4}, r"pushing failed .*status 4")],
)
def test_a_fault_of_the_engine_is_told(machine: Machine, faults: dict[str, int], words: str) -> None:
    registry()
    with pytest.raises(ImageError, match=words):
        build_and_push(machine.has("podman", **faults), Console(quiet=True), ["gateway"])


def test_podman_takes_over_where_the_daemon_of_docker_is_off(machine: Machine) -> None:
    registry("0123456789abcdef0123456789abcdef")
    build_and_push(machine.has("docker", "podman", info=1), Console(quiet=True), ["gateway"])
    assert machine.said[-1].startswith("podman")


def test_without_an_engine_codebuild_is_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    who = machine.has()
    monkeypatch.setenv("PATH", str(machine.directory / "bin"))
    asked: list[list[str]] = []

    def build(_: object, console: object, wanted: list[str]) -> dict[str, str]:
        asked.append(wanted)
        return {"gateway": "sha256:1"}

    monkeypatch.setattr(images, "build_remotely", build)
    assert build_and_push(who, Console(quiet=True), ["gateway"]) == {"gateway": "sha256:1"}
    assert asked == [["gateway"]]


def test_a_missing_repository_says_to_deploy(machine: Machine) -> None:
    with pytest.raises(ImageError, match="no image repository byollm-dev/gateway"):
        build_and_push(machine.has("podman"), Console(quiet=True), ["gateway"])


def test_the_newest_image_is_what_was_pushed_last(machine: Machine) -> None:
    digest = registry("one", image="inference")
    assert newest(patient(), "inference") == digest
    assert address(patient(), "inference", digest).endswith(f"/byollm-dev/inference@{digest}")


def test_a_registry_without_images_says_how_to_get_one(machine: Machine) -> None:
    registry(image="inference")
    with pytest.raises(ImageError, match=r"images\.inference"):
        newest(patient(), "inference")
