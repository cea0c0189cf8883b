"""Where the files of a model are read from: a directory here; the command line adds S3."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from byollm.modeling.errors import CheckpointError

CHUNK_BYTES = 4 * 2**20
SUMS = "SHA256SUMS"


class Source(Protocol):
    """The files of one model."""

    name: str
    """What people call it; errors and the card say it."""

    def files(self) -> Mapping[str, int]:
        """Return the names of its files, those in folders left out, and their sizes."""

    def chunks(self, file: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read the bytes of a file from `start` to `stop`, its end if not given, piece by piece."""

    def promised(self, file: str) -> str | None:
        """Return the SHA-256 under which the place itself keeps a file, if it does."""


class DirectorySource:
    """A model in a directory.

    Args:
        directory: where it is.
        name: what it is called; by default the directory's name.

    Raises:
        CheckpointError: there is no such directory.
    """

    def __init__(self, directory: Path, name: str | None = None) -> None:
        if not directory.is_dir():
            raise CheckpointError(f"{directory}: no such directory; expected that of a model")
        self.directory, self.name = directory, name or directory.resolve().name

    def files(self) -> dict[str, int]:
        """Return the names and sizes of the files in the directory."""
        return {path.name: path.stat().st_size for path in sorted(self.directory.iterdir()) if path.is_file()}

    def chunks(self, file: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read a file from `start` to `stop`.

        Raises:
            CheckpointError: it cannot be read, or ends before `stop`.
        """
        path = self.directory / file
        try:
            with path.open("rb") as opened:
                opened.seek(start)
                left = path.stat().st_size - start if stop is None else stop - start
                while left > 0:
                    chunk = opened.read(min(CHUNK_BYTES, left))
                    if not chunk:
                        raise CheckpointError(f"{path}: ends {left:,} bytes early; copy the file afresh")
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error}); check the disk and your permissions"
            ) from None

    def promised(self, file: str) -> str | None:
        """Return the name of the blob behind a link: the cache of Hugging Face's Hub names it by its hash."""
        path = self.directory / file
        blob = path.resolve().name if path.is_symlink() else ""
        return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None


def read_bytes(source: Source, file: str, start: int = 0, stop: int | None = None) -> bytearray:
    """Read a part of a file whole."""
    if stop is None:
        stop = source.files()[file]
    data, filled = bytearray(stop - start), 0
    for chunk in source.chunks(file, start, stop):
        data[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return data


def sha256_of(source: Source, file: str, tell: Callable[[int], object] = lambda size: None) -> str:
    """Hash a file; `tell` hears of the bytes as they are read."""
    digest = hashlib.sha256()
    for chunk in source.chunks(file):
        digest.update(chunk)
        tell(len(chunk))
    return digest.hexdigest()


def verified(
    source: Source, files: Iterable[str], tell: Callable[[int], object] = lambda size: None
) -> dict[str, str]:
    """Hash files, and compare with what the source says of them: its SHA256SUMS, or the place itself.

    Raises:
        CheckpointError: a file is not what it should be; it is named with both hashes.
    """
    sums, hashes = read_sums(source), {}
    for file in files:
        hashes[file] = found = sha256_of(source, file, tell)
        for witness, expected in ((SUMS, sums.get(file)), ("Hugging Face's Hub", source.promised(file))):
            if expected not in (None, found):
                raise CheckpointError(
                    f"{source.name}: {file} is corrupt: its SHA-256 is {found}, and {witness} says "
                    f"{expected}; copy the file afresh"
                )
    return hashes


def read_sums(source: Source) -> dict[str, str]:
    """Return what SHA256SUMS says of each file, as sha256sum writes it; nothing where there is none."""
    if SUMS not in source.files():
        return {}
    lines = bytes(read_bytes(source, SUMS)).decode(errors="replace").splitlines()
    entries = [re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line) for line in lines if line]
    if not all(entries):
        raise CheckpointError(
            f"{source.name}: {SUMS} is not as sha256sum writes it; copy it afresh or remove it"
        )
    return {entry[2]: entry[1] for entry in entries if entry}
