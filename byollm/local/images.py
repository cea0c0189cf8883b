"""The images of this checkout, as processes of this machine: what a container engine would build and push."""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byollm.settings import REPOSITORY

FILE = "images.json"  # in the world's directory; `byollm.local.containers` reads it

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of `{}`


@dataclass(frozen=True)
class LocalImage:
    """An image whose container is a process of this environment.

    Args:
        module: what its entry point runs.
        port: the variable that says where it listens.
        code: the folders of the checkout that are in it.
    """

    module: str
    port: str
    code: tuple[str, ...]

    @property
    def start(self) -> dict[str, Any]:
        """How it is started."""
        return {"argv": [sys.executable, "-m", self.module], "port": self.port}

    def manifest(self) -> str:
        """Write what a registry keeps of it: no layers, and which code will run. Other code, other image."""
        empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": _EMPTY, "size": 2}
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": empty,
            "layers": [],
            "annotations": {"byollm.module": self.module, "byollm.code": self._code()},
        }
        return json.dumps(manifest)

    def _code(self) -> str:
        content = hashlib.sha256()
        for file in sorted(file for folder in self.code for file in (REPOSITORY / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".so":
                content.update(f"{file.relative_to(REPOSITORY)}\n".encode())
                content.update(hashlib.sha256(file.read_bytes()).digest())
        return content.hexdigest()


_SERVED = ("settings", "kernels", "modeling", "engine", "server", "cli")
IMAGES = {
    "inference": LocalImage(
        "byollm.local.entry", "SAGEMAKER_BIND_TO_PORT", tuple(f"byollm/{part}" for part in _SERVED)
    ),
    "gateway": LocalImage(
        "byollm", "BYOLLM__GATEWAY__PORT", ("byollm/settings", "byollm/aws", "byollm/gateway", "byollm/cli")
    ),
    "frontend": LocalImage("frontend", "BYOLLM__PAGE__PORT", ("byollm/settings", "frontend")),
}


def manifests_now() -> dict[str, str]:
    """Return the manifests of the images, as the code is now; while `byollm up` works, it may change."""
    return {name: image.manifest() for name, image in IMAGES.items()}


def digest(manifest: str) -> str:
    """Return the digest that a registry knows an image by."""
    return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"


def write_images(directory: Path, env: str, digests: Mapping[str, str]) -> None:
    """Say in `directory` how the images of `env` are started that have these digests."""
    starts = {f"byollm-{env}/{name}@{digest}": IMAGES[name].start for name, digest in digests.items()}
    know(directory, starts)


def know(directory: Path, starts: Mapping[str, Any]) -> None:
    """Say in `directory` how images are started, by `<repository>@<digest>`; others stay known."""
    file = directory / FILE
    with (directory / f"{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # `byollm up` and the registry are two processes
        known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        following = file.with_suffix(".next")
        following.write_text(json.dumps({**known, **starts}, indent=2))
        os.replace(following, file)


def port_of(repository: str) -> str:
    """Return the variable that tells a container of `repository` where to listen: SageMaker's, if unknown."""
    known = IMAGES.get(repository.rpartition("/")[2], IMAGES["inference"])
    return known.port


def push_images(registry: Any, env: str, manifests: Mapping[str, str]) -> list[str]:
    """Have the images in the repositories of `env`; return the names of those that were not there.

    Args:
        registry: boto3's client of ECR.
        env: the environment.
        manifests: those of the images.
    """
    return [name for name, manifest in manifests.items() if _push(registry, f"byollm-{env}/{name}", manifest)]


def _push(registry: Any, repository: str, manifest: str) -> bool:
    known_by = digest(manifest)
    try:
        registry.describe_images(repositoryName=repository, imageIds=[{"imageDigest": known_by}])
    except registry.exceptions.ImageNotFoundException:
        registry.put_image(
            repositoryName=repository,
            imageManifest=manifest,
            imageManifestMediaType=_MANIFEST_TYPE,
            imageTag=known_by.removeprefix("sha256:")[:12],
        )
        return True
    return False
