"""Files that appear whole or not at all, and their hashes."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from byollm.data.errors import DataError

UNFINISHED = ".partial"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that a kill at any moment leaves either the old state or the whole new file.

    Raises:
        DataError: the disk is full or refuses.
    """
    partial = path.with_name(path.name + UNFINISHED)
    with disk_errors(path), partial.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    with disk_errors(path):
        partial.replace(path)
        sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as a whole JSON file with a stable layout."""
    data = (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
    write_whole(path, lambda file: file.write(data))


def sync_directory(directory: Path) -> None:
    """Make renames inside `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write into an error with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DataError(
                f"{path}: the disk is full ({error.strerror}). What was finished is kept: free some "
                "space and run the same command again to continue."
            ) from error
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process; the lock goes with the process, even with a killed one.

    Raises:
        DataError: another process holds it.
    """
    with disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{directory}: another run is writing here. Wait for it, or choose another --out."
            ) from None
        yield
