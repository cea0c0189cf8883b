"""A model's files: fetched from S3 once for each content, and kept so that nobody writes to them."""

import errno
import hashlib
import shutil
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.world import World
from byollm.settings.errors import ByollmError

NAME = "model"  # as under /opt/ml: a server may name the model after its directory


class ModelFilesError(ByollmError):
    """A model's files cannot be had."""


class ModelFiles:
    """The models that were fetched, as read-only directories of this machine.

    Args:
        world: whose S3 has them, and whose directory keeps them.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._one_at_a_time = threading.Lock()
        for left in (world.directory / "models").glob(".fetching-*"):  # by a kill
            shutil.rmtree(left, ignore_errors=True)

    def fetch(self, url: str, archive: bool) -> Path:
        """Return the directory of a model; it blocks while files are fetched.

        Args:
            url: an S3 prefix, or the object that is the archive.
            archive: whether it is a .tar.gz to be unpacked.

        Raises:
            ModelFilesError: nothing is there, or it cannot be read.
        """
        with self._one_at_a_time:
            try:
                return self._fetch(url, archive)
            except (BotoCoreError, ClientError, OSError, tarfile.TarError) as error:
                full = isinstance(error, OSError) and error.errno == errno.ENOSPC
                what = f"the disk of {self._world.directory} is full; make room there" if full else error
                raise ModelFilesError(f"{url}: {what}") from None

    def _fetch(self, url: str, archive: bool) -> Path:
        address = urlsplit(url)
        bucket, prefix = address.netloc, address.path.lstrip("/")
        pages = (
            self._world.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        )
        objects = [one for page in pages for one in page.get("Contents", ()) if not one["Key"].endswith("/")]
        if archive:
            objects = [one for one in objects if one["Key"] == prefix]
        if not objects:
            raise ModelFilesError(f"{url}: there is no object")
        content = hashlib.sha256(repr([(one["Key"], one["ETag"]) for one in objects]).encode())
        place = self._world.directory / "models" / content.hexdigest()[:16]
        if not place.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".fetching-", dir=place.parent))
            try:
                self._fill(scratch / NAME, bucket, prefix, objects, archive)
                scratch.rename(place)
            except BaseException:
                shutil.rmtree(scratch)
                raise
        return place / NAME

    def _fill(self, place: Path, bucket: str, prefix: str, objects: list[Any], archive: bool) -> None:
        client = self._world.client("s3")
        for one in objects:
            path = place / (one["Key"].removeprefix(prefix).lstrip("/") or Path(one["Key"]).name)
            if not path.resolve().is_relative_to(place.resolve()):
                raise ModelFilesError(f"s3://{bucket}/{one['Key']}: its name leads out of the model")
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, one["Key"], str(path))
            if archive:
                with tarfile.open(path) as packed:
                    packed.extractall(place, filter="data")
                path.unlink()
        for path in (place, *place.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
