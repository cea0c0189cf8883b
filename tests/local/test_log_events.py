"""What CloudWatch Logs keeps outlives a kill, and is as much as its group keeps, within bounds."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ministack.core.responses import AccountRegionScopedDict, set_request_account_id, set_request_region
from ministack.services import cloudwatch_logs as logs

from byollm.local.ministack import log_events
from byollm.local.ministack.log_events import LogEvents

GROUP, STREAM = {"logGroupName": "/g"}, {"logStreamName": "s"}
Start = Callable[[], None]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start ministack's part, as after a kill, without a snapshot."""
    patched = ("_append_log_events", "_restore_state", "_delete_log_group", "_delete_log_stream", "get_state")
    originals = {name: getattr(logs, name) for name in patched}

    def again() -> None:
        for name, original in originals.items():
            monkeypatch.setattr(logs, name, original)
        for name in ("_log_groups", "_log_records"):
            monkeypatch.setattr(logs, name, AccountRegionScopedDict())
        LogEvents(tmp_path / "logs.sqlite").install()
        logs.load_persisted_state({})

    set_request_account_id("123456789012")
    set_request_region("ca-central-1")
    again()
    logs._create_log_group(GROUP)
    logs._create_log_stream({**GROUP, **STREAM})
    return again


def put(*messages: str, at: float | None = None) -> None:
    now = int((at or time.time()) * 1000)
    events = [{"timestamp": now, "message": message} for message in messages]
    assert logs._put_log_events({**GROUP, **STREAM, "logEvents": events})[0] == 200


def kept() -> list[str]:
    group = logs._log_groups["/g"]["streams"]
    return [event["message"] for event in group[STREAM["logStreamName"]]["events"]]


def test_events_outlive_a_kill_and_what_is_deleted_stays_away(start: Start) -> None:
    put("one", "two")
    put("before them", at=1_700_000_000)
    start()
    assert kept() == ["before them", "one", "two"]
    assert logs._log_groups["/g"]["streams"]["s"]["firstEventTimestamp"] == 1_700_000_000_000
    logs._delete_log_stream({**GROUP, **STREAM})
    start()
    assert not logs._log_groups


def test_a_snapshot_is_no_larger_for_what_was_written(start: Start) -> None:
    put("x" * 1000)
    assert "xxx" not in repr(logs.get_state()["log_groups"]._data)
    assert "log_records" not in logs.get_state()


def test_a_group_keeps_its_days(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_events, "LOOK_EVERY_S", 0.0)
    logs._put_retention_policy({**GROUP, "retentionInDays": 3})
    put("two days old", at=time.time() - 2 * 86400)
    put("four days old", at=time.time() - 4 * 86400)
    assert kept() == ["two days old"]
    start()
    assert kept() == ["two days old"]


def test_a_group_that_is_full_lets_the_oldest_go(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_events, "GROUP_BYTES", 10_000)
    for number in range(1000):
        put(f"line {number}", at=1_700_000_000 + number)
        size = sum(len(message) + log_events.EVENT_BYTES for message in kept())
        assert size <= 10_000
    assert kept()[-1] == "line 999"
    assert size > 5_000
    before = kept()
    start()
    assert kept() == before


def test_what_a_query_finds_is_not_held_for_ever(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_events, "RECORDS", 10)
    for number in range(100):
        put(f"line {number}")
    assert len(logs._log_records) <= 20
