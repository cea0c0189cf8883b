"""The files under a prefix of S3, read by ranges and written."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from byollm.aws.calls import listed
from byollm.aws.clients import Clients
from byollm.aws.errors import AwsError, explained

CHUNK_BYTES = 4 * 2**20
ATTEMPTS = 5  # to go on with a body that breaks off; the call itself is retried by boto3


class S3Folder:
    """The objects of one prefix by what their keys have after it, those in folders under it left out.

    Args:
        clients: of the bucket's region.
        address: such as s3://bucket/models/mine.

    Raises:
        AwsError: it is no such address.
    """

    def __init__(self, clients: Clients, address: str) -> None:
        found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([^\s]*))?", address)
        if found is None:
            raise AwsError(f"{address!r} is no place in S3; expected one such as s3://bucket/models/mine")
        self.name = address.rstrip("/")
        self._s3, self._bucket = clients.client("s3"), found[1]
        self._prefix = f"{(found[2] or '').strip('/')}/".lstrip("/")
        self._objects: dict[str, dict[str, Any]] | None = None

    def files(self) -> dict[str, int]:
        """Return the names and sizes of the files, as they were when first asked for."""
        with self._told():
            return {name: each["Size"] for name, each in self._listed().items()}

    def chunks(self, file: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read a file from `start` to `stop`, its end if not given; always the version that was listed.

        Raises:
            AwsError: AWS refuses, or the connection breaks again and again.
        """
        with self._told():
            found = self._listed()[file]
            at, stop, failed = start, found["Size"] if stop is None else stop, 0
            while at < stop:
                key, part = found["Key"], f"bytes={at}-{stop - 1}"
                answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range=part, IfMatch=found["ETag"])
                try:
                    for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                        at += len(chunk)
                        yield chunk
                except BotoCoreError:
                    failed += 1
                    if failed == ATTEMPTS:
                        raise

    def promised(self, file: str) -> str | None:
        """Return None: S3 checks what it stores by itself."""
        return None

    def put(self, path: Path, sha256: str, tell: Callable[[int], object] = lambda size: None) -> None:
        """Upload a file under its name, unless it is there with this hash; `tell` hears of the bytes."""
        with self._told(), path.open("rb") as opened:
            found = self._listed().get(path.name)
            if found is not None and found["Size"] == path.stat().st_size and self._sha256(found) == sha256:
                tell(found["Size"])
                return
            extra, key = {"Metadata": {"sha256": sha256}}, self._prefix + path.name
            self._s3.upload_fileobj(opened, self._bucket, key, ExtraArgs=extra, Callback=tell)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            with explained():
                yield
        except AwsError as error:
            raise AwsError(f"{self.name}: {error}") from error

    def _sha256(self, found: dict[str, Any]) -> str | None:
        head = self._s3.head_object(Bucket=self._bucket, Key=found["Key"])
        digest: str | None = head["Metadata"].get("sha256")
        return digest

    def _listed(self) -> dict[str, dict[str, Any]]:
        if self._objects is None:
            try:
                found = [
                    *listed(self._s3, "list_objects_v2", "Contents", Bucket=self._bucket, Prefix=self._prefix)
                ]
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchBucket":
                    raise
                raise AwsError(f"there is no bucket {self._bucket}; check the name and the account") from None
            names = {each["Key"].removeprefix(self._prefix): each for each in found}
            self._objects = {name: each for name, each in names.items() if name and "/" not in name}
        return self._objects
