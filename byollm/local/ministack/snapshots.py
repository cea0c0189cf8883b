"""What ministack remembers, on disk often enough that a kill loses a few seconds of it at most.

By itself it saves when it is ended in order, file by file.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ministack import app as ministack
from ministack.core import persistence
from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict

log = logging.getLogger(__name__)

_EVERY = 1.0  # seconds, at least
_SHARE = 10  # saving takes one part in so many of a core, no more; measurements grow, and change all the time


class Snapshots:
    """All of ministack's state as one folder of files, which is replaced as a whole.

    Args:
        directory: the folder.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._next = directory.with_name(directory.name + ".next")
        self._last = directory.with_name(directory.name + ".last")
        self._saved: dict[str, Any] = {}
        self._failed = False
        for kind in (AccountScopedDict, AccountRegionScopedDict):  # by themselves, no two are equal
            kind.__eq__ = lambda one, other: type(one) is type(other) and one._data == other._data

    def recover(self) -> None:
        """Put the folder back where a kill fell between the two moves of replacing it."""
        shutil.rmtree(self._next, ignore_errors=True)
        if not self._directory.exists() and self._last.exists():
            self._last.rename(self._directory)
        shutil.rmtree(self._last, ignore_errors=True)

    async def keep(self, ended: asyncio.Event) -> None:
        """Save again and again, the last time when `ended` is set; a full disk is told, and tried again."""
        pause = _EVERY
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), pause)
            began = time.monotonic()
            await self._save()
            pause = max(_EVERY, _SHARE * (time.monotonic() - began))

    async def _save(self) -> None:
        """Write the state as it is now, if it is another than the last one written."""
        readers: dict[str, Callable[[], Any]] = ministack._build_persistence_save_dict()
        state = {name: read() for name, read in readers.items()}  # copies, made while nothing changes
        if state == self._saved:
            return
        try:
            await asyncio.to_thread(self._write, state)
        except OSError as error:
            if not self._failed:  # once for each time that it fails
                log.error("the state cannot be saved to %s: make room there (%s)", self._directory, error)
            self._failed, self._saved = True, {}  # whatever lies there, all of it is written next
            shutil.rmtree(self._next, ignore_errors=True)
        else:
            self._failed, self._saved = False, state

    def _write(self, state: dict[str, Any]) -> None:
        shutil.rmtree(self._next, ignore_errors=True)
        self._next.mkdir(parents=True)
        changed = dict(state)
        for name, part in self._saved.items():
            if part is not None and part == state.get(name):
                os.link(self._directory / f"{name}.json", self._next / f"{name}.json")
                del changed[name]
        persistence.STATE_DIR = str(self._next)
        persistence.save_all({name: (lambda part=part: part) for name, part in changed.items()})
        written = {path.stem for path in self._next.glob("*.json")}
        if written < {name for name, part in state.items() if part is not None}:
            raise OSError("a part of it could not be written; the log says which")
        shutil.rmtree(self._last, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self._directory.rename(self._last)
        self._next.rename(self._directory)
        shutil.rmtree(self._last, ignore_errors=True)
