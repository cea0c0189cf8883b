"""What CloudWatch Logs keeps: as long as a group says, as much as there is room for, written once.

By itself: every event, twice, for ever, and all of them again with every snapshot.
"""

import itertools
import logging
import sqlite3
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from copy import deepcopy
from pathlib import Path
from typing import Any

from ministack.core.responses import AccountRegionScopedDict, set_request_account_id, set_request_region
from ministack.services import cloudwatch_logs as logs

log = logging.getLogger(__name__)

GROUP_BYTES = 4 * 2**20
"""Of one group; where there are more, the oldest quarter goes."""
EVENT_BYTES = 26  # that AWS counts for an event beside its message
RECORDS = 10_000  # that GetLogRecord finds, as many as a query has results
LOOK_EVERY_S = 3600.0  # for events that are older than their group keeps them
DAY_MS = 86_400_000

Event = dict[str, Any]
Group = tuple[str, str, str]  # account, region, name
# What a snapshot still holds, beside the groups without their events; results of queries are not worth it.
_PLAIN = (
    *("destinations", "resource_policies", "log_group_policies", "metric_filters"),
    *("delivery_sources", "delivery_destinations", "deliveries"),
)


class LogEvents:
    """The events of all groups: in ministack's memory, where it reads them, and in a file that outlives it.

    Args:
        path: the file, made if missing; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # functions write from threads of their own
        self._sizes: defaultdict[Group, int] = defaultdict(int)
        self._looked: dict[Group, float] = {}
        self._written = True
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(
            # So a kill loses nothing, and a power cut what came last.
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
            "CREATE TABLE IF NOT EXISTS events (account TEXT, region TEXT, log_group TEXT, stream TEXT,"
            " time INTEGER, ingested INTEGER, id TEXT, message TEXT);"
            "CREATE INDEX IF NOT EXISTS by_time ON events (log_group, time);"
        )

    def install(self) -> None:
        """Have ministack keep its events here."""
        append, restore = logs._append_log_events, logs._restore_state
        delete_group, delete_stream = logs._delete_log_group, logs._delete_log_stream

        def append_and_keep(stream: dict[str, Any], events: list[Event]) -> None:
            append(stream, events)
            self._keep(stream, events)

        def restore_with_events(state: Any) -> None:
            restore(state)
            self._restore()

        def delete_group_with_events(data: dict[str, Any]) -> Any:
            self._forget(data.get("logGroupName"))
            return delete_group(data)

        def delete_stream_with_events(data: dict[str, Any]) -> Any:
            self._forget(data.get("logGroupName"), data.get("logStreamName"))
            return delete_stream(data)

        logs._append_log_events, logs._restore_state = append_and_keep, restore_with_events
        logs._delete_log_group, logs._delete_log_stream = delete_group_with_events, delete_stream_with_events
        logs.get_state = _state_without_events

    def _keep(self, stream: dict[str, Any], events: list[Event]) -> None:
        """Write down what was appended to a stream, and throw away what its group does not keep any more."""
        with self._lock:
            if "_key" not in stream:
                stream["_key"] = _find(stream)
            *group, name = stream["_key"]
            rows = [
                (*group, name, one["timestamp"], one["ingestionTime"], one.get("eventId"), one["message"])
                for one in events
            ]
            try:
                with self._database:
                    self._database.execute("BEGIN")
                    self._database.executemany(f"INSERT INTO events VALUES ({'?, ' * 7}?)", rows)  # noqa: S608
                self._written = True
            except sqlite3.OperationalError as error:
                if self._written:  # once for each time that there is no room
                    log.error("events are in memory only, %s cannot be written: %s", self._path, error)
                self._written = False
            self._sizes[tuple(group)] += sum(map(_size, events))
            self._throw_away(tuple(group))
        records = logs._log_records._data
        if len(records) > 2 * RECORDS:
            for pointer in list(itertools.islice(records, len(records) - RECORDS)):
                del records[pointer]

    def _throw_away(self, key: Group) -> None:
        """Let go what is older than a group keeps, and the oldest where it holds too much."""
        now, too_much = time.time(), self._sizes[key] > GROUP_BYTES
        if not too_much and now < self._looked.get(key, 0.0) + LOOK_EVERY_S:
            return
        self._looked[key] = now
        group = logs._log_groups._data.get(key)
        if group is None:  # deleted meanwhile
            return
        days = group.get("retentionInDays")
        before = round(now * 1000) - days * DAY_MS if days else 0
        with logs._log_events_lock:
            if too_much:
                before = max(before, _oldest_kept([one["events"] for one in group["streams"].values()]))
            for name, stream in list(group["streams"].items()):
                gone = bisect_left(stream["events"], before, key=logs._event_timestamp)
                stream["events"] = stream["events"][gone:]
                if gone and not stream["events"]:  # functions open one for each call
                    del group["streams"][name]
        self._sizes[key] = sum(_size(one) for kept in group["streams"].values() for one in kept["events"])
        self._delete("account = ? AND region = ? AND log_group = ? AND time < ?", (*key, before))

    def _forget(self, group: str | None, stream: str | None = None) -> None:
        """Let go the events of a group, or of one of its streams, which is about to be deleted."""
        key = logs._log_groups._scoped(group)
        with self._lock:
            where, values = "account = ? AND region = ? AND log_group = ?", key
            if stream is not None:
                where, values = f"{where} AND stream = ?", (*key, stream)
            else:
                self._sizes.pop(key, None)
            self._delete(where, values)

    def _delete(self, where: str, values: tuple[Any, ...]) -> None:
        try:
            self._database.execute(f"DELETE FROM events WHERE {where}", values)  # noqa: S608
        except sqlite3.OperationalError as error:
            log.error("events that are gone stay in %s: %s", self._path, error)

    def _restore(self) -> None:
        """Give streams their events again, also those that were made after the last snapshot."""
        rows = self._database.execute(
            "SELECT * FROM events ORDER BY account, region, log_group, stream, time, rowid"
        )
        for key, found in itertools.groupby(rows, key=lambda row: row[:4]):
            account, region, group, stream = key
            set_request_account_id(account)
            set_request_region(region)
            name = {"logGroupName": group}
            logs._create_log_group(name)  # which refuses where it is there
            logs._create_log_stream({**name, "logStreamName": stream})
            events = [_event(*row[4:]) for row in found]
            times = {
                "firstEventTimestamp": events[0]["timestamp"],
                "lastEventTimestamp": events[-1]["timestamp"],
                "lastIngestionTime": events[-1]["ingestionTime"],
            }
            logs._log_groups[group]["streams"][stream].update(events=events, **times)
            self._sizes[account, region, group] += sum(map(_size, events))


def _state_without_events() -> dict[str, Any]:
    groups = AccountRegionScopedDict()
    for key, group in list(logs._log_groups._data.items()):
        streams = {name: {**stream, "events": []} for name, stream in list(group["streams"].items())}
        plain = {name: value for name, value in group.items() if name != "streams"}
        groups._data[key] = {**deepcopy(plain), "streams": streams}
    return {"log_groups": groups, **{name: deepcopy(getattr(logs, f"_{name}")) for name in _PLAIN}}


def _find(stream: dict[str, Any]) -> list[str]:
    """Return the account, region, group and name of a stream, which ministack passes on without."""
    for key, group in list(logs._log_groups._data.items()):
        for name, one in list(group["streams"].items()):
            if one is stream:
                return [*key, name]
    raise LookupError("the stream is gone")


def _oldest_kept(streams: list[list[Event]]) -> int:
    """Return the time from which on events fill three quarters of what a group may hold."""
    size = 0
    newest_first = sorted(
        (one for events in streams for one in events), key=logs._event_timestamp, reverse=True
    )
    for event in newest_first:
        size += _size(event)
        if size > GROUP_BYTES * 3 // 4:
            return int(event["timestamp"]) + 1
    return 0


def _size(event: Event) -> int:
    return len(event["message"]) + EVENT_BYTES


def _event(time: int, ingested: int, id: str | None, message: str) -> Event:
    event = {"timestamp": time, "message": message, "ingestionTime": ingested}
    return event if id is None else {**event, "eventId": id}
