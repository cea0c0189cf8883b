"""Directories of this machine and prefixes of S3. Everything here blocks: call it in a thread."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from byollm.settings.errors import ByollmError


class S3FilesError(ByollmError):
    """What is in S3 cannot be had as files."""


def address(url: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix` into bucket and prefix."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise S3FilesError(f"{url!r} is not of the form s3://bucket/prefix")
    return parts.netloc, parts.path.lstrip("/")


def listed(client: Any, url: str) -> list[str]:
    """Return the keys under a prefix, without those that stand for folders.

    Raises:
        BotoCoreError, ClientError: there is no such bucket, or S3 does not answer.
    """
    bucket, prefix = address(url)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = (one["Key"] for page in pages for one in page.get("Contents", ()))
    return [key for key in keys if not key.endswith("/")]


def download(client: Any, url: str, keys: list[str], place: Path) -> None:
    """Fetch objects under a prefix to the files they have the names of.

    Raises:
        S3FilesError: a name leads out of the place, or is that of a file and of a folder.
        BotoCoreError, ClientError, OSError: an object or the place cannot be had.
    """
    bucket, prefix = address(url)
    for key in keys:
        path = place / _name(key, prefix)
        if not path.resolve().is_relative_to(place.resolve()):
            raise S3FilesError(f"s3://{bucket}/{key}: its name leads out of the directory")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise S3FilesError(f"s3://{bucket}/{key}: a part of its name is another object") from None
        client.download_file(bucket, key, str(path))


def upload(client: Any, source: Path, url: str, encryption: dict[str, str]) -> None:
    """Put every file of a directory under a prefix, by its path."""
    for path in files(source):
        put(client, path, f"{url.rstrip('/')}/{path.relative_to(source).as_posix()}", encryption)


def put(client: Any, path: Path, url: str, encryption: dict[str, str]) -> None:
    """Put one file where the URL says."""
    bucket, key = address(url)
    client.upload_file(str(path), bucket, key, ExtraArgs=encryption)


def files(place: Path) -> Iterator[Path]:
    """Yield the files of a directory; links are not followed."""
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


class Mirror:
    """A directory whose files are kept in S3 too, as they are written.

    What is removed from the directory stays in S3, as with SageMaker's checkpoints.

    Args:
        client: of S3.
        place: the directory.
        url: the prefix.
    """

    def __init__(self, client: Any, place: Path, url: str) -> None:
        self._client, self._place, self._url = client, place, url.rstrip("/")
        self._kept: dict[Path, tuple[int, int]] = {}

    def fetch(self) -> None:
        """Fill the directory with what is in S3."""
        prefix = self._url + "/"
        download(self._client, prefix, listed(self._client, prefix), self._place)
        self._kept = {path: _state(path) for path in files(self._place)}

    def push(self) -> None:
        """Put what is new or has changed into S3, the oldest first, so that a done-marker comes last.

        A file that is gone before it was read, as when it is renamed, is left to the next time.

        Raises:
            Boto3Error, BotoCoreError, ClientError: S3 does not take it.
        """
        changed = []
        for path in files(self._place):
            try:
                state = _state(path)
            except FileNotFoundError:
                continue
            if self._kept.get(path) != state:
                changed.append((state, path))
        for state, path in sorted(changed):
            try:
                put(self._client, path, f"{self._url}/{path.relative_to(self._place).as_posix()}", {})
            except FileNotFoundError:
                continue
            self._kept[path] = state


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _name(key: str, prefix: str) -> PurePosixPath:
    """Return the path of an object: below the prefix if that is a folder, else its place beside it."""
    rest = key.removeprefix(prefix)
    if rest and (prefix.endswith("/") or not prefix or rest.startswith("/")):
        return PurePosixPath(rest.lstrip("/"))
    return PurePosixPath(key[len(prefix.rpartition("/")[0]) :].lstrip("/"))
