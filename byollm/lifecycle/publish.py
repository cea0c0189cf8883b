"""A model directory becomes files in S3 under a name of their content, as an endpoint loads them."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from byollm.aws import Clients, explained, listed, one
from byollm.lifecycle.errors import LifecycleError

SUMS = "SHA256SUMS"  # as sha256sum and `byollm quantize` write it


@dataclass(frozen=True)
class ModelFolder:
    """The files of a model, by their names relative to it, with what tells each from another."""

    directory: Path
    files: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Look at every file of `directory` but hidden ones.

        Raises:
            LifecycleError: it is no model directory, or a file is not what its SHA256SUMS says.
        """
        if not directory.is_dir():
            raise LifecycleError(f"{directory}: no such directory; expected that of a model")
        files = {}
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory)
            if path.is_file() and not any(part.startswith(".") for part in name.parts):
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                files[name.as_posix()] = {"sha256": sha256, "size": path.stat().st_size}
        if "config.json" not in files or not any(name.endswith(".safetensors") for name in files):
            raise LifecycleError(
                f"{directory}: expected a Hugging Face model directory with config.json and "
                f"model.safetensors; it has {', '.join(list(files)[:10]) or 'no files'}"
            )
        for named, sha256 in _sums(directory / SUMS).items():
            if files.get(named, {}).get("sha256") != sha256:
                raise LifecycleError(
                    f"{directory / named}: is absent or not what {SUMS} says; copy the file or make the "
                    "model anew"
                )
        return cls(directory, files)

    @property
    def size(self) -> int:
        """Of all files together, in bytes."""
        return sum(int(file["size"]) for file in self.files.values())

    @property
    def manifest(self) -> str:
        """Every file with its digest and size, as JSON."""
        return json.dumps({"files": self.files}, sort_keys=True)

    @property
    def content(self) -> str:
        """What stands for all of it: half of the digest of its manifest."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()[:32]

    @explained()
    def upload(self, clients: Clients, bucket: str, tell: Callable[[int], object] = lambda size: None) -> str:
        """Put it to `s3://<bucket>/versions/<content>/` and return that; what is there already is not sent.

        Args:
            clients: of the bucket's region.
            bucket: of models.
            tell: is told the bytes that are there, as they come; from several threads.
        """
        s3 = clients.client("s3")
        prefix = f"versions/{self.content}/"
        objects = listed(s3, "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
        there = {found["Key"]: found["Size"] for found in objects}
        for name, file in self.files.items():
            if there.get(prefix + name) == file["size"]:
                tell(file["size"])
            else:
                s3.upload_file(str(self.directory / name), bucket, prefix + name, Callback=tell)
        # Beside the files, not among them: the endpoint would load it as one of the model's.
        manifest = {"Bucket": bucket, "Key": f"manifests/{self.content}.json"}
        if one(s3.head_object, **manifest) is None:
            s3.put_object(**manifest, Body=self.manifest.encode(), ContentType="application/json")
        return f"s3://{bucket}/{prefix}"


def _sums(path: Path) -> dict[str, str]:
    """Return the hash of each file that a SHA256SUMS names; nothing where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    entries = (re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line) for line in lines)
    return {entry[2]: entry[1] for entry in entries if entry}
