"""A small disk of a test's own, which can be really full."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A file system in memory."""

    path: Path

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes, to the page."""
        self.clear()
        with self._ballast.open("wb") as file:
            while (room := shutil.disk_usage(self.path).free - leave) > 0:
                with contextlib.suppress(OSError):  # who else writes there has just had a part of it
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)


MakeDisk = Callable[[int], Disk]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Make a disk of so many MiB."""
    mounted: list[Path] = []

    def make(mib: int) -> Disk:
        path = tmp_path / f"disk-{len(mounted)}"
        path.mkdir()
        line = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a file system has to be mounted, which needs root: {done.stderr.strip()}")
        mounted.append(path)
        return Disk(path)

    yield make
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
