"""Adapters by name, and the slots of the runner in which some of them stand. Knows nothing of tensors."""

import logging
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from byollm.engine.errors import AdapterLimitError, UnknownAdapterError

if TYPE_CHECKING:
    from byollm.modeling import Adapter

logger = logging.getLogger(__name__)

T = TypeVar("T")

BASE = -1
"""The slot of requests without an adapter."""


@dataclass(eq=False, slots=True)
class LoadedAdapter:
    """One version of an adapter.

    Attributes:
        name: what requests ask for.
        version: no two loaded adapters have the same, whatever their names.
        weights: what it adds to the model.
        pinned: whether it keeps the slot that it once got, until it is replaced or unloaded.
        retired: whether it was replaced or unloaded, and only those who asked before still use it.
    """

    name: str
    version: int
    weights: "Adapter"
    pinned: bool = False
    retired: bool = False

    @property
    def salt(self) -> bytes:
        """What cache blocks depend on beside tokens: equal only for the same weights."""
        return f"{self.name}@{self.version}".encode(errors="surrogatepass")


class AdapterSlots:
    """Which adapter stands in which slot of the runner.

    Sequences that run hold the slot of their adapter, and so do readers of texts that are not answered. When
    all slots are full, the adapter that was used longest ago and that nobody holds makes room. Where both
    sequences and readers wait, slots that fall free go to them in turn.

    Args:
        size: how many slots the runner has.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._slots: dict[LoadedAdapter, int] = {}  # the one used longest ago first
        self._free = list(range(size - 1, -1, -1))
        self._holders: Counter[LoadedAdapter] = Counter()
        self._changes: dict[int, LoadedAdapter | None] = {}
        self.readers_waiting = 0
        self.sequences_waiting = False
        self.readers_turn = True

    def available(self, adapter: LoadedAdapter) -> bool:
        """Whether `acquire` would give a slot."""
        return adapter in self._slots or bool(self._free) or self._idle() is not None

    def acquire(self, adapter: LoadedAdapter) -> int | None:
        """Hold the slot of an adapter, which is put into one if need be; None if all others are held."""
        slot = self._slots.pop(adapter, None)
        if slot is None and (slot := self._room()) is not None:
            self._changes[slot] = adapter
        if slot is not None:
            self._slots[adapter] = slot  # behind all others
            self._holders[adapter] += 1
        return slot

    def release(self, adapter: LoadedAdapter) -> None:
        """Give back what `acquire` gave."""
        self._holders[adapter] -= 1
        if not self._holders[adapter]:
            del self._holders[adapter]
            if adapter.retired:
                self.vacate(adapter)

    def retire(self, adapter: LoadedAdapter) -> None:
        """Free the slot of an adapter that nobody will ask for any more, as soon as nobody holds it."""
        adapter.retired = True
        if adapter not in self._holders:
            self.vacate(adapter)

    def vacate(self, adapter: LoadedAdapter) -> None:
        """Take an adapter that nobody holds out of its slot, if it stands in one."""
        if (slot := self._slots.pop(adapter, None)) is not None:
            self._free.append(slot)
            self._changes[slot] = None

    def take_changes(self) -> dict[int, LoadedAdapter | None]:
        """Return what has to be put into the runner's slots before its next step, by slot."""
        changes, self._changes = self._changes, {}
        return changes

    def held(self) -> Counter[str]:
        """Count who holds the adapters, by name."""
        names: Counter[str] = Counter()
        for adapter, holders in list(self._holders.items()):
            names[adapter.name] += holders
        return names

    def _room(self) -> int | None:
        if self._free:
            return self._free.pop()
        idle = self._idle()
        return None if idle is None else self._slots.pop(idle)

    def _idle(self) -> LoadedAdapter | None:
        """The adapter to make room."""
        free = (a for a in self._slots if a not in self._holders and (a.retired or not a.pinned))
        return next(free, None)

    def check_invariants(self, sequences: Counter[LoadedAdapter]) -> None:
        """Assert that each slot is free or an adapter's, and held by at least these sequences."""
        assert sorted([*self._free, *self._slots.values()]) == list(range(self.size))
        assert sequences <= self._holders
        assert self._holders.keys() <= self._slots.keys()
        assert all(adapter in self._holders for adapter in self._slots if adapter.retired)


class Adapters:
    """The adapters that requests can ask for, by name.

    Args:
        slots: where they stand while they are used.
        most: how many there may be.
        load: reads the adapter in a directory, and calls it by a name; safe from any thread.
        put: puts an adapter, or nothing, into a slot of the runner.
    """

    def __init__(
        self,
        slots: AdapterSlots,
        most: int,
        load: Callable[[Path, str], "Adapter"],
        put: Callable[[int, "Adapter | None"], None],
    ) -> None:
        self._slots = slots
        self._most = most
        self._load = load
        self._put = put
        self._by_name: dict[str, LoadedAdapter] = {}
        self._versions = count(1)

    def find(self, name: str | None) -> LoadedAdapter | None:
        """Return the present version of an adapter; None for None.

        Raises:
            UnknownAdapterError: there is none of this name.
        """
        try:
            return None if name is None else self._by_name[name]
        except KeyError:
            raise UnknownAdapterError(
                f"there is no adapter {name!r}; there are: {', '.join(sorted(self._by_name)) or 'none'}",
                "model",
            ) from None

    def read(self, name: str, directory: Path, pinned: bool) -> tuple["Adapter", bool]:
        """Read an adapter, to be given to `add`. Safe from any thread.

        Raises:
            AdapterError: it is no adapter for this model.
            AdapterLimitError: there are as many as there may be.
        """
        self.check_room(name, pinned)
        return self._load(directory, name), pinned

    def add(self, weights: "Adapter", pinned: bool) -> None:
        """Let an adapter be asked for, instead of an older version if there is one.

        Raises:
            AdapterLimitError: there are as many as there may be.
        """
        name = weights.name
        old = self._by_name.get(name)
        self.check_room(name, pinned)
        self._by_name[name] = LoadedAdapter(name, next(self._versions), weights, pinned)
        if old is not None:
            self._slots.retire(old)

    def load(self, name: str, directory: Path, pinned: bool = False) -> None:
        """Load an adapter as PEFT saves it, or a new version of it; a pinned one keeps the slot that it gets.

        Raises:
            AdapterError: it is no adapter for this model.
            AdapterLimitError: there are as many as there may be.
        """
        self.add(*self.read(name, directory, pinned))

    def check_room(self, name: str, pinned: bool) -> None:
        """Refuse an adapter for which there is no room.

        Raises:
            AdapterLimitError: there are as many as there may be; says which limit.
        """
        if not self._slots.size:
            raise AdapterLimitError("this engine takes no adapters: set engine.adapter_slots above 0")
        others = [adapter for adapter in list(self._by_name.values()) if adapter.name != name]
        if len(others) >= self._most:
            raise AdapterLimitError(
                f"there are {len(others)} adapters, as many as there may be: unload one, or raise "
                "engine.max_adapters"
            )
        if pinned and sum(adapter.pinned for adapter in others) >= self._slots.size - 1:
            raise AdapterLimitError(
                f"one of the {self._slots.size} slots has to remain for adapters that are not pinned: "
                "pin fewer, or raise engine.adapter_slots"
            )

    def remove(self, name: str) -> None:
        """Let an adapter no longer be asked for; who has asked already keeps it to the end.

        Raises:
            UnknownAdapterError: there is none of this name.
        """
        adapter = self.find(name)
        assert adapter is not None
        del self._by_name[name]
        self._slots.retire(adapter)

    def fill(self) -> list[tuple[LoadedAdapter, Exception]]:
        """Put adapters where the slots want them; return those for which that cannot be done."""
        failed = []
        for slot, adapter in self._slots.take_changes().items():
            try:
                self._put(slot, None if adapter is None else adapter.weights)
            except Exception as error:
                logger.exception("slot %d could not be filled", slot)
                if adapter is not None:
                    failed.append((adapter, error))
        return failed

    def reading(
        self, adapter: LoadedAdapter | None, read: Callable[[int], Generator[None, None, T]]
    ) -> Generator[None, None, T]:
        """Read a text beside the steps: wait for a slot of its adapter, and hold that until all is read."""
        if adapter is None:
            return (yield from read(BASE))
        slot = None
        self._slots.readers_waiting += 1
        try:
            while slot is None:
                if self._slots.readers_turn or not self._slots.sequences_waiting:
                    slot = self._slots.acquire(adapter)
                if slot is None:
                    yield
            self._slots.readers_turn = False
        finally:
            self._slots.readers_waiting -= 1
        failure = None
        try:
            failure = next((error for failed, error in self.fill() if failed is adapter), None)
            if failure is not None:
                raise failure
            return (yield from read(slot))
        finally:
            self._slots.release(adapter)
            if failure is not None:
                self._slots.vacate(adapter)
