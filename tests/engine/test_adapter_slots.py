"""Which adapter stands in which slot, and who is admitted when there are more adapters than slots."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from byollm.engine.adapters import Adapters, AdapterSlots, LoadedAdapter
from byollm.engine.block_pool import BlockPool
from byollm.engine.errors import AdapterLimitError, UnknownAdapterError
from byollm.engine.request import Request
from byollm.engine.scheduler import Scheduler
from tests.engine.support import make_request

A, B, C = (LoadedAdapter(name, number, cast(Any, None)) for number, name in enumerate("abc"))


def registry(slots: AdapterSlots, most: int = 3) -> Adapters:
    return Adapters(
        slots, most, lambda directory, name: cast(Any, SimpleNamespace(name=name)), lambda *_: None
    )


def scheduler(slots: int, max_running: int = 4) -> Scheduler:
    return Scheduler(BlockPool(64, 4), max_running, 64, adapter_slots=slots)


def add(subject: Scheduler, *requests: tuple[str, LoadedAdapter | None]) -> list[Request]:
    made = []
    for name, adapter in requests:
        made.append(make_request(name))
        made[-1].adapter = adapter
        subject.add(made[-1])
    return made


def step(subject: Scheduler) -> str:
    """Schedule, and pretend that the chunks were computed; return the names of their sequences."""
    chunks = subject.schedule()
    subject.check_invariants()
    for chunk in chunks:
        chunk.request.computed = chunk.end
        if chunk.rows:
            chunk.request.append(7)
    return "".join(chunk.request.request_id for chunk in chunks)


def test_the_longest_unused_makes_room() -> None:
    slots = AdapterSlots(2)
    for adapter in (A, B, A):
        assert slots.acquire(adapter) is not None
    for adapter in (A, B, A):
        slots.release(adapter)
    slots.take_changes()
    assert slots.acquire(C) == 1  # where B stood
    assert slots.take_changes() == {1: C}


def test_what_is_held_stays_and_who_comes_waits() -> None:
    slots = AdapterSlots(2)
    assert [slots.acquire(adapter) for adapter in (A, B, C, A)] == [0, 1, None, 0]
    assert not slots.available(C)
    slots.release(B)
    assert slots.available(C)
    assert slots.acquire(C) == 1
    slots.check_invariants(Counter([A, A, C]))


def test_a_pinned_one_keeps_its_slot_until_it_is_retired() -> None:
    slots, pinned = AdapterSlots(2), LoadedAdapter("p", 9, cast(Any, None), pinned=True)
    for adapter in (pinned, A):
        slots.acquire(adapter)
        slots.release(adapter)
    assert slots.acquire(B) == 1
    assert slots.acquire(C) is None
    slots.retire(pinned)
    assert slots.acquire(C) == 0


def test_a_retired_one_leaves_its_slot_with_its_last_holder() -> None:
    slots, old = AdapterSlots(1), LoadedAdapter("o", 9, cast(Any, None))
    slots.acquire(old)
    slots.retire(old)
    assert not slots.available(A)
    slots.release(old)
    slots.take_changes()
    assert slots.acquire(old) == 0  # one that waited comes back to it,
    slots.release(old)
    assert slots.take_changes() == {0: None}  # and it leaves again


def test_requests_keep_their_version_and_names_can_be_given_anew() -> None:
    slots = AdapterSlots(1)
    adapters = registry(slots)
    adapters.load("a", Path())
    first = adapters.find("a")
    adapters.load("a", Path())
    second = adapters.find("a")
    assert first is not None
    assert second is not None
    assert first.salt != second.salt
    assert (first.retired, second.retired) == (True, False)
    adapters.remove("a")
    with pytest.raises(UnknownAdapterError, match="no adapter 'a'; there are: none"):
        adapters.find("a")


def test_limits_are_told_by_the_setting_to_raise() -> None:
    adapters = registry(AdapterSlots(2), most=2)
    adapters.load("a", Path(), pinned=True)
    with pytest.raises(AdapterLimitError, match=r"engine\.adapter_slots"):
        adapters.load("b", Path(), pinned=True)
    adapters.load("b", Path())
    with pytest.raises(AdapterLimitError, match=r"engine\.max_adapters"):
        adapters.load("c", Path())
    adapters.load("a", Path())  # a new version takes no more room
    with pytest.raises(AdapterLimitError, match=r"above 0"):
        registry(AdapterSlots(0)).load("a", Path())


def test_a_step_has_no_more_adapters_than_slots() -> None:
    subject = scheduler(slots=2, max_running=8)
    add(subject, ("1", A), ("2", B), ("3", C), ("4", None), ("5", A))
    assert step(subject) == "1245"
    assert [request.request_id for request in subject.waiting] == ["3"]


def test_one_who_waits_gets_the_next_slot_that_falls_free() -> None:
    subject = scheduler(slots=1)
    first, *_ = add(subject, ("1", A), ("2", B), ("3", A))
    assert step(subject) == "13"
    subject.remove(first)
    assert step(subject) == "3"
    subject.remove(subject.running[0])
    assert step(subject) == "2"


def test_one_who_waits_is_not_overtaken_for_ever() -> None:
    subject = scheduler(slots=1, max_running=2)
    add(subject, ("x", A))
    step(subject)
    add(subject, ("w", B))
    admitted = 0
    for number in range(20):  # those who come later and whose adapter is there
        add(subject, (str(number), A))
        if "w" in step(subject):
            break
        admitted = number
        subject.remove(subject.running[0])
    assert "w" in {request.request_id for request in subject.running}
    assert admitted <= 4


def test_those_without_an_adapter_never_wait_for_a_slot() -> None:
    subject = scheduler(slots=1, max_running=8)
    add(subject, ("1", A), *((str(number), B) for number in range(2, 6)), ("b", None))
    assert step(subject) == "1b"


def test_sequences_let_a_reader_go_first() -> None:
    subject = scheduler(slots=1)
    adapters = Adapters(subject.slots, 3, cast(Any, None), lambda *_: None)
    first, *_ = add(subject, ("1", A))
    step(subject)

    def read(slot: int) -> Any:
        yield
        return slot

    reading = adapters.reading(B, read)
    next(reading)  # it waits
    add(subject, ("2", A))
    assert step(subject) == "1"
    subject.remove(first)
    assert step(subject) == ""
    next(reading)  # it reads, and holds the slot
    assert step(subject) == ""
    with pytest.raises(StopIteration):
        next(reading)
    assert step(subject) == "2"


def test_readers_and_sequences_get_slots_in_turn() -> None:
    subject = scheduler(slots=1)
    adapters = Adapters(subject.slots, 3, cast(Any, None), lambda *_: None)
    held: list[str] = []

    def read(slot: int) -> Any:
        held.append("reader")
        yield

    readings = [adapters.reading(B, read) for _ in range(4)]
    first, *_ = add(subject, ("0", A), *((str(number), C) for number in range(1, 5)))
    step(subject)
    for reading in readings:
        next(reading)
    subject.remove(first)
    for _ in range(40):
        for reading in readings:
            next(reading, None)
        if step(subject) and subject.running[0].computed == 4:
            held.append("sequence")
        elif subject.running:
            subject.remove(subject.running[0])
    assert held == ["reader", "sequence"] * 4


def test_readers_do_not_wait_for_sequences_that_are_gone() -> None:
    subject = scheduler(slots=1)
    adapters = Adapters(subject.slots, 3, cast(Any, None), lambda *_: None)
    first, second = add(subject, ("1", A), ("2", B))
    subject.slots.readers_turn = False
    step(subject)
    assert subject.slots.sequences_waiting
    reading = adapters.reading(C, lambda slot: iter(()))  # type: ignore[arg-type, return-value]
    subject.remove(second)
    subject.remove(first)
    with pytest.raises(StopIteration):
        next(reading)


def test_a_reader_that_is_dropped_gives_up_its_place() -> None:
    slots = AdapterSlots(1)
    slots.acquire(A)
    adapters = Adapters(slots, 3, cast(Any, None), lambda *_: None)
    reading = adapters.reading(B, lambda slot: iter(()))  # type: ignore[arg-type, return-value]
    next(reading)
    assert slots.readers_waiting == 1
    reading.close()
    assert slots.readers_waiting == 0
