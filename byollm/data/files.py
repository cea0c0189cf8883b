"""Sources opened as streams: plain, gzip or xz, single files or members of a tar. Nothing is extracted."""

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, Self, cast

from byollm.data.errors import DataError
from byollm.settings import REPOSITORY

TEXT_SUFFIXES = (".txt", ".md", ".text")
TABLE_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv")
XZ_MEMORY = 256 * 2**20  # preset 9 needs 65 MiB; a hostile header may ask for 4 GiB
TAR_HEADER = 2**20  # of an extended header; honest ones hold a long name
CHUNK = 2**18

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Member:
    """One readable file of a source: its name for people, what its suffix says it is, its unpacked bytes."""

    name: str
    suffix: str
    stream: IO[bytes]


@dataclass(frozen=True)
class Skipped:
    """A member that is not read, and why."""

    name: str
    reason: str


def find(path: Path, directory: Path, setting: str) -> Path:
    """Return the file that `path` names: absolute, else under `directory`, here, or in the repository.

    Raises:
        DataError: there is no such file.
    """
    candidates = [path] if path.is_absolute() else [directory / path, path, REPOSITORY / path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = ", ".join(str(candidate) for candidate in candidates)
    what = "a directory, not a file:" if any(candidate.is_dir() for candidate in candidates) else "no file"
    raise DataError(
        f"{setting}: {what} {path} (looked for {tried}). Correct the path, or set data.directory "
        "(environment variable BYOLLM__DATA__DIRECTORY) to the directory that holds it. "
        "Many files are given one by one, or as a .tar."
    )


def members(path: Path, pattern: str, max_bytes: int, advance: Advance) -> Iterator[Member | Skipped]:
    """Yield the readable members of the file or archive at `path`, each to be read before the next.

    `advance` is told how many bytes of the file were consumed, for progress. Links, devices and directories
    of an archive are never followed; member names are labels only.

    Raises:
        DataError: the file is damaged, unreadable, or unpacks to more than `max_bytes`.
    """
    name = path.name
    with _read_errors(str(path)), path.open("rb", buffering=0) as raw:
        counted = cast(IO[bytes], io.BufferedReader(_Counted(raw, advance), CHUNK))
        stream, inner = _unpacked(counted, name, str(path), max_bytes)
        if inner.endswith(".tar"):
            yield from _tar_members(stream, path, pattern, max_bytes)
        elif (suffix := _suffix(inner)) is not None:
            yield Member(name, suffix, stream)
        else:
            known = ", ".join((*TEXT_SUFFIXES, *TABLE_SUFFIXES, ".tar"))
            raise DataError(
                f"{path}: cannot tell the format from the name. Expected one of {known}, "
                "each also with .gz or .xz after it."
            )


@contextmanager
def _read_errors(label: str) -> Iterator[None]:
    """Turn what reading and unpacking raise into an error with a remedy."""
    try:
        yield
    except (lzma.LZMAError, zlib.error, EOFError, tarfile.TarError, gzip.BadGzipFile) as error:
        raise DataError(
            f"{label}: damaged or not the format its name says ({error or type(error).__name__}). "
            "Fetch or unpack the file again, or take it out of the sources."
        ) from error
    except OSError as error:
        raise DataError(f"{label}: cannot be read ({error.strerror or error}).") from error


def _tar_members(stream: IO[bytes], path: Path, pattern: str, max_bytes: int) -> Iterator[Member | Skipped]:
    matched = False
    with tarfile.open(fileobj=stream, mode="r|", errorlevel=1, tarinfo=_Header) as tar:
        for info in tar:
            name = f"{path.name}:{info.name}"
            if info.isdir() or not fnmatchcase(info.name, pattern):
                continue
            matched = True
            content = tar.extractfile(info) if info.isreg() and not info.issparse() else None
            if content is None:
                yield Skipped(name, "not a regular file (a link, a device or a sparse file)")
                continue
            unpacked, inner = _unpacked(content, info.name, f"{path}:{info.name}", max_bytes)
            suffix = _suffix(inner)
            if suffix is None:
                yield Skipped(name, "not a text or table by its name")
            else:
                yield Member(name, suffix, unpacked)
    if not matched:
        raise DataError(
            f"{path}: no file in the archive matches {pattern!r}. Correct the source's `members`."
        )


class _Header(tarfile.TarInfo):
    """A tar header that is trusted with nothing.

    `tarfile` takes a damaged header for the end of the archive, which would lose the rest silently, and reads
    extended headers whole into memory, whatever size they claim.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined] # zeros: the proper end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"after {tar.offset:,} bytes of the archive: {error}") from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{header.name}: an old sparse file, which is not supported")
        if header.type not in tarfile.REGULAR_TYPES and header.size > TAR_HEADER:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def _suffix(name: str) -> str | None:
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix in TEXT_SUFFIXES + TABLE_SUFFIXES else None


def _unpacked(stream: IO[bytes], name: str, label: str, max_bytes: int) -> tuple[IO[bytes], str]:
    """Undo one compression that the name tells; return the stream and the name without that suffix."""
    inner = name.lower()
    if inner.endswith((".tgz", ".txz")):
        inner = f"{inner[:-4]}.tar.{inner[-2:]}"
    source: _Readable = stream
    if inner.endswith(".gz"):
        source, inner = gzip.GzipFile(fileobj=stream), inner.removesuffix(".gz")
    elif inner.endswith(".xz"):
        source, inner = _Xz(stream), inner.removesuffix(".xz")
    return cast(IO[bytes], io.BufferedReader(_Guarded(source, label, max_bytes), CHUNK)), inner


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Counted(io.RawIOBase):
    """Passes a raw file on and tells how much was read."""

    def __init__(self, raw: io.FileIO, advance: Advance) -> None:
        self._raw, self._advance = raw, advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer) or 0
        self._advance(count)
        return count


class _Guarded(io.RawIOBase):
    """Passes a stream on, up to a limit, with errors that say which file is at fault."""

    def __init__(self, source: _Readable, label: str, limit: int) -> None:
        self._source, self._label, self._limit, self._given = source, label, limit, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _read_errors(self._label):
            data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        self._given += len(data)
        if self._given > self._limit:
            raise DataError(
                f"{self._label}: unpacks to more than {self._limit:,} bytes, which is refused as a "
                "decompression bomb. If the file is honest, raise data.max_unpacked_bytes."
            )
        return len(data)


class _Xz:
    """Unpacks an xz stream within a memory limit, which `lzma.LZMAFile` does not offer."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = _decoder()
        self._started = False

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while True:
            if self._decoder.eof:  # another stream may follow; zero padding between streams is allowed
                rest = self._decoder.unused_data.lstrip(b"\0") or self._stream.read(CHUNK).lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder = _decoder()
            elif self._decoder.needs_input:
                rest = self._stream.read(CHUNK)
                if not rest:
                    raise EOFError("it ends in the middle" if self._started else "it is empty")
                self._started = True
            else:
                rest = b""
            if data := self._decoder.decompress(rest, size):
                return data


def _decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
