"""The adapters served beside the model: which there are, where they may come from, and how they change."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from byollm.engine.errors import AdapterLimitError
from byollm.modeling import AdapterError
from byollm.modeling.adapter_config import CONFIG, FILES
from byollm.server.errors import ServerError

if TYPE_CHECKING:
    from byollm.engine import AsyncEngine

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
MOST_NAMED = 20  # in an error
LONGEST_PATH = 1024


class AdapterRefusedError(ServerError):
    """An adapter cannot be loaded or unloaded; may be told to anybody.

    Args:
        message: why, and what to do.
        field: what of the request is at fault.
        missing: whether something is not there, rather than wrong.
    """

    def __init__(self, message: str, field: Literal["name", "path"], missing: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.missing = missing


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that requests may ask for.

    Attributes:
        name: what they ask for.
        source: where it came from, as it may be shown: within the directory of adapters.
        directory: where it came from.
        pinned: whether it keeps its slot.
        created: when it was loaded, in seconds since 1970.
    """

    name: str
    source: str
    directory: Path
    pinned: bool
    created: int


class AdapterStore:
    """Loads adapters into an engine, and knows which there are. Nothing outside its directory is read.

    Args:
        engine: what answers with them.
        directory: under which adapters may be loaded while the server runs; None: nowhere.
        taken: names that no adapter may have.
    """

    def __init__(self, engine: AsyncEngine, directory: Path | None, taken: frozenset[str]) -> None:
        self._engine = engine
        self._directory = None if directory is None else directory.resolve()
        self._taken = taken
        self._served: dict[str, ServedAdapter] = {}
        self._lock = asyncio.Lock()  # one change at a time: each takes memory

    def __contains__(self, name: str) -> bool:
        return name in self._served

    @property
    def served(self) -> list[ServedAdapter]:
        """All adapters, by name."""
        return sorted(self._served.values(), key=lambda adapter: adapter.name)

    def find(self, name: str) -> ServedAdapter:
        """Return an adapter.

        Raises:
            AdapterRefusedError: there is none of this name.
        """
        if name not in self._served:
            there = [repr(known) for known in sorted(self._served)]
            if len(there) > MOST_NAMED:
                there[MOST_NAMED:] = [f"{len(there) - MOST_NAMED} more"]
            listed = f"There are: {', '.join(there)}" if there else "None is loaded"
            raise AdapterRefusedError(f"There is no adapter '{name[:128]}'. {listed}.", "name", missing=True)
        return self._served[name]

    async def start(self, named: Mapping[str, Path]) -> None:
        """Load the adapters that are there from the start: those named, and those in the directory.

        Raises:
            ServerError: one that was named cannot be loaded. One that is just there is logged and left out:
                it may have been put there while the server ran, and must not keep it from coming back.
        """
        for name, directory in named.items():
            try:
                self._check_name(name, new=True)
                await self._load(name, directory.resolve(), str(directory.name), pinned=False)
            except AdapterRefusedError as error:
                raise ServerError(f"adapter {name} ({directory}): {error}") from None
        for path in () if self._directory is None else sorted(self._directory.iterdir()):
            if path.name in named or not (path / CONFIG).is_file():
                continue
            try:
                await self.load(path.name, path.name)
            except AdapterRefusedError as error:
                log.error("the adapter in %s is left out: %s", path, error)

    async def load(self, name: str, path: str, *, new: bool = True, pinned: bool = False) -> None:
        """Load an adapter from under the directory.

        Args:
            name: what requests are to ask for.
            path: within the directory, or whole.
            new: whether the name must be free; otherwise what has it is replaced.
            pinned: whether it is to keep the slot that it once gets.

        Raises:
            AdapterRefusedError: it cannot be loaded.
        """
        async with self._lock:
            self.check_changeable()
            self._check_name(name, new)
            directory, source = await asyncio.to_thread(self._locate, path)
            await self._load(name, directory, source, pinned)

    async def reload(self, name: str, path: str | None, pinned: bool | None) -> None:
        """Replace an adapter that is there; what is None stays as it is.

        Raises:
            AdapterRefusedError: there is none of this name, or it cannot be loaded.
        """
        old = self.find(name)
        path = str(old.directory) if path is None else path
        await self.load(name, path, new=False, pinned=old.pinned if pinned is None else pinned)

    async def unload(self, name: str) -> None:
        """Serve an adapter no longer; requests under way keep it to their end.

        Raises:
            AdapterRefusedError: there is none of this name.
        """
        async with self._lock:
            self.check_changeable()
            self.find(name)
            del self._served[name]
            await self._engine.unload_adapter(name)
        log.info("adapter %s is unloaded", name)

    def check_changeable(self) -> None:
        """Refuse changes where no directory was set.

        Raises:
            AdapterRefusedError: there is none.
        """
        if self._directory is None:
            raise AdapterRefusedError(
                "This server's adapters cannot be changed while it runs: set server.adapters to the "
                "directory that they may come from",
                "path",
            )

    async def _load(self, name: str, directory: Path, source: str, pinned: bool) -> None:
        try:
            await self._engine.load_adapter(name, directory, pinned)
        except AdapterLimitError as error:
            raise AdapterRefusedError(f"The adapter '{name}' cannot be loaded: {error}", "name") from None
        except AdapterError as error:
            raise AdapterRefusedError(f"The adapter '{name}' cannot be loaded: {error}", "path") from None
        self._served[name] = ServedAdapter(name, source, directory, pinned, int(time.time()))
        log.info("adapter %s is loaded from %s", name, directory)

    def _check_name(self, name: str, new: bool) -> None:
        if not NAME.fullmatch(name):
            raise AdapterRefusedError(
                "An adapter's name has 1 to 128 letters, digits and . _ : / @ + -, a letter or digit first",
                "name",
            )
        if name in self._taken:
            raise AdapterRefusedError(f"'{name}' is the name of a model: choose another", "name")
        if new and name in self._served:
            raise AdapterRefusedError(
                f"The adapter '{name}' has already been loaded: unload it, or replace it (load_inplace)",
                "name",
            )

    def _locate(self, path: str) -> tuple[Path, str]:
        """Find a directory, and make sure that it and its files are under the directory of adapters."""
        root = self._directory
        assert root is not None
        outside = AdapterRefusedError(
            "The path leads out of this server's directory of adapters (server.adapters): give one within it",
            "path",
        )
        if not path or len(path) > LONGEST_PATH:
            raise outside
        try:
            found = (root / path).resolve()
            if found == root or not found.is_relative_to(root):
                raise outside
            if not found.is_dir():
                raise AdapterRefusedError(
                    f"There is no '{found.relative_to(root)}' in this server's directory of adapters",
                    "path",
                    missing=True,
                )
            if not all((found / file).resolve().is_relative_to(root) for file in FILES):
                raise outside  # a link led there
        except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a null byte
            raise outside from None
        return found, str(found.relative_to(root))
