"""The directory in which a packed model grows, until it is whole and takes its name.

It lies beside its destination. A process that is killed leaves it, and the next one goes on with the shards
that are whole: those whose hash is written down, and still right.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from byollm.modeling.errors import CheckpointError
from byollm.modeling.packing.plan import Shard
from byollm.modeling.packing.source import SUMS, DirectorySource, Source, read_bytes, read_sums, sha256_of

RECORD = "quantization.json"


@dataclass(frozen=True)
class Job:
    """What makes two runs give the same bytes."""

    scheme: str
    group: int
    double: bool
    calibration: str | None
    """The SHA-256 of the text."""
    shard_bytes: int
    byollm: str
    """The version."""
    files: Mapping[str, str]
    """The SHA-256 of each file of the source that matters."""

    def made(self, place: Source) -> bool:
        """Whether the model at a place is what this job makes, whole."""
        files = place.files()
        if RECORD not in files or SUMS not in files:
            return False
        try:
            record = json.loads(read_bytes(place, RECORD))
            return bool(record["job"] == asdict(self)) and read_sums(place).keys() <= files.keys()
        except (ValueError, KeyError, TypeError):
            return False


class Workspace:
    """The directory of a job that is under way; made by `open_workspace`."""

    def __init__(self, directory: Path, hashes: dict[str, str]) -> None:
        self.directory, self._hashes = directory, hashes

    def finished(self, shard: Shard) -> bool:
        """Whether an earlier run has written a shard to its end."""
        return shard.file in self._hashes

    def finish(self, file: str) -> None:
        """Write down the hash of a file that is whole."""
        self._hashes[file] = sha256_of(DirectorySource(self.directory), file)
        self._write_sums()

    def write(self, file: str, data: bytes) -> None:
        """Write a file that is no shard."""
        write_atomically(self.directory / file, data)

    def seal(self, out: Path) -> None:
        """Hash every file, put all of it on the disk, and give the directory its name."""
        for path in self.directory.iterdir():
            if path.name not in self._hashes and path.name != SUMS:
                self._hashes[path.name] = sha256_of(DirectorySource(self.directory), path.name)
        self._write_sums()
        for path in (*self.directory.iterdir(), self.directory):
            _sync(path)
        self.directory.rename(out)
        _sync(out.parent)

    def _write_sums(self) -> None:
        lines = [f"{digest}  {file}\n" for file, digest in sorted(self._hashes.items())]
        write_atomically(self.directory / SUMS, "".join(lines).encode())


@contextmanager
def open_workspace(
    out: Path, job: Job, shards: list[Shard], tell: Callable[[str], object]
) -> Iterator[Workspace]:
    """Give the workspace of what shall be at `out`, with the whole shards that an earlier run left there.

    Args:
        out: the destination.
        job: what is done; the remains of another one are thrown away.
        shards: all that will be there.
        tell: is told what is found.

    Raises:
        CheckpointError: another process is at it, the disk is too small or full, or may not be written to.
    """
    directory = out.absolute().with_name(f".{out.name}.quantizing")
    needed = sum(shard.nbytes for shard in shards)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _locked(directory):
            hashes = _remains(directory, job, shards)
            if hashes:
                tell(f"going on: {len(hashes)} of {len(shards)} files are there")
            left = sum(shard.nbytes for shard in shards if shard.file not in hashes)
            free = shutil.disk_usage(directory).free
            if left > free:
                raise CheckpointError(
                    f"{out}: {left:,} bytes are still to be written, and the disk has {free:,} free; free "
                    "some space, or name a directory on another disk"
                )
            yield Workspace(directory, hashes)
    except OSError as error:
        raise CheckpointError(
            f"{out}: could not be written ({error}); free some space ({needed:,} bytes in all) or check its "
            "permissions, and run it again: files that are whole are kept, and it goes on there"
        ) from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"{directory}: another process is quantising there; wait for it, or end it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _remains(directory: Path, job: Job, shards: list[Shard]) -> dict[str, str]:
    """Return the hashes of the whole shards that an earlier run of this job left, and remove all else."""
    own = DirectorySource(directory)
    try:
        same = json.loads((directory / RECORD).read_text(encoding="utf-8"))["job"] == asdict(job)
        sums = read_sums(own) if same else {}
    except (OSError, ValueError, KeyError, TypeError, CheckpointError):
        same, sums = False, {}
    names = {shard.file for shard in shards}
    hashes = {
        file: digest
        for file, digest in sums.items()
        if file in names and file in own.files() and sha256_of(own, file) == digest
    }
    kept = {*hashes, SUMS, RECORD} if same else set()
    for path in directory.iterdir():
        if path.name not in kept:
            path.unlink()
    if not same:
        write_atomically(directory / RECORD, as_json({"job": asdict(job)}))
    return hashes


def as_json(value: Mapping[str, Any]) -> bytes:
    """Return JSON for people and programs."""
    return json.dumps(value, indent=2).encode() + b"\n"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, so that a reader sees the old one or the new one whole."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    _sync(fresh)
    fresh.rename(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
