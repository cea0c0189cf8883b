"""Has the images built and in the registry: by this machine's container engine, or else by CodeBuild."""

import base64
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from byollm.aws import listed, one
from byollm.cli.remote_images import build_remotely
from byollm.doctor.patient import Patient
from byollm.settings import ByollmError
from byollm.settings.instances import INSTANCE_TYPES

IMAGES = ("inference", "gateway", "frontend")


class ImageError(ByollmError):
    """An image cannot be built or pushed."""


def build_and_push(patient: Patient, console: Console, images: Iterable[str]) -> dict[str, str]:
    """Build each of `images` and have it in the registry; return their digests.

    An image is tagged by its own content, so one that is there already is not sent again.

    Raises:
        ImageError: the container engine failed; what it said stands above.
        RemoteImageError: there is none, and CodeBuild failed.
    """
    engine = _engine()
    if engine is None:
        console.print("no docker daemon and no podman on this machine (docs/container.md)")
        return build_remotely(patient, console, images)
    # An emulated AWS has no certificate; docker trusts this machine by itself.
    insecure = ("--tls-verify=false",) if engine == "podman" and patient.emulated else ()
    _log_in(patient, engine, insecure)
    digests = {}
    for image in images:
        console.print(f"[bold]image {image}[/]: building with {engine}")
        local = f"byollm-{image}"
        _build(patient, image, local)
        digests[image] = _push(patient, engine, image, local, insecure)
        console.print(f"image {image}: {digests[image]}")
    return digests


def address(patient: Patient, image: str, digest: str) -> str:
    """Return the whole name of an image in the environment's registry."""
    return f"{_repository(patient, image)}@{digest}"


def newest(patient: Patient, image: str) -> str:
    """Return the digest of the image that was pushed last.

    Raises:
        ImageError: there is none.
    """
    name = f"byollm-{patient.env}/{image}"
    _repository(patient, image)  # says so where it is missing
    found = list(listed(patient.client("ecr"), "describe_images", "imageDetails", repositoryName=name))
    if not found:
        raise ImageError(
            f"{name} has no image: run `byollm deploy --env {patient.env}`, or set images.{image} to the "
            "digest of one that a pipeline pushed"
        )
    return str(max(found, key=lambda each: each["imagePushedAt"])["imageDigest"])


def _engine() -> str | None:
    """Return docker where its daemon answers, else podman, as `scripts/image` chooses; None: neither is."""
    if shutil.which("docker") and not _run("docker", "info", quiet=True).returncode:
        return "docker"
    if shutil.which("podman"):
        return "podman"
    return None


def _build(patient: Patient, image: str, local: str) -> None:
    gpu = INSTANCE_TYPES[patient.settings.endpoint.instance_type].gpus
    given = {"IMAGE": local, "CONTAINER": image, "RUNTIME": "cuda" if gpu else "cpu"}
    _must("building", str(patient.repository / "scripts" / "image"), variables=given)


def _push(patient: Patient, engine: str, image: str, local: str, options: Sequence[str]) -> str:
    repository = _repository(patient, image)
    content = _must("inspecting", engine, "image", "inspect", "--format", "{{.Id}}", local, quiet=True)
    tag = content.strip().removeprefix("sha256:")[:32]
    digest = _digest(patient, image, tag)
    if digest is None:
        _must("tagging", engine, "tag", local, f"{repository}:{tag}")
        _must("pushing", engine, "push", *options, f"{repository}:{tag}")
        digest = _digest(patient, image, tag)
    if digest is None:
        raise ImageError(f"{repository} does not have the image {tag} that was pushed to it; run it again")
    return digest


def _digest(patient: Patient, image: str, tag: str) -> str | None:
    """Ask the registry for the digest of a tag; None where it has none."""
    found = one(
        patient.client("ecr").batch_get_image,
        repositoryName=f"byollm-{patient.env}/{image}",
        imageIds=[{"imageTag": tag}],
    )
    images = (found or {}).get("images", ())
    return next((str(each["imageId"]["imageDigest"]) for each in images), None)


def _repository(patient: Patient, image: str) -> str:
    """Return the address of a repository.

    Raises:
        ImageError: there is none.
    """
    name = f"byollm-{patient.env}/{image}"
    try:
        found = patient.client("ecr").describe_repositories(repositoryNames=[name])
    except patient.client("ecr").exceptions.RepositoryNotFoundException:
        raise ImageError(f"there is no image repository {name}: deploy the registry first") from None
    return str(found["repositories"][0]["repositoryUri"])


def _log_in(patient: Patient, engine: str, options: Sequence[str]) -> None:
    token = patient.client("ecr").get_authorization_token()["authorizationData"][0]
    password = base64.b64decode(token["authorizationToken"]).decode().partition(":")[2]
    line = [engine, "login", *options, "--username", "AWS", "--password-stdin", token["proxyEndpoint"]]
    _must("logging in to the registry", *line, given=password, quiet=True)


def _must(doing: str, *line: str, quiet: bool = False, given: str | None = None, **more: Any) -> str:
    """Run a command and return what it printed, or nothing if the user saw it.

    Raises:
        ImageError: it failed.
    """
    ran = _run(*line, quiet=quiet, given=given, **more)
    if ran.returncode:
        said = f": {(ran.stderr or '').strip()}" if quiet else "; what it said stands above"
        raise ImageError(f"{doing} failed ({' '.join(line[:2])}, status {ran.returncode}){said}")
    return ran.stdout or ""


def _run(
    *line: str, quiet: bool = False, given: str | None = None, variables: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        line, capture_output=quiet, text=True, input=given, env=os.environ | (variables or {}), check=False
    )
