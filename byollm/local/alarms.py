"""Alarms that are judged: CloudWatch's part that looks at metrics and says in which state an alarm is.

ministack keeps alarms and does what they ask for when their state changes; when it does, is decided here.
"""

import asyncio
import logging
import operator
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.protocol import Members
from byollm.local.world import World

log = logging.getLogger(__name__)

_EVERY = 10.0  # seconds of the world's clock
_LATE = 1.0  # real seconds that measurements take to arrive
_MOST = 100  # periods judged at one look
_SOONEST = 0.25  # real seconds between two looks, however fast the clock is

_COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


class Alarms:
    """Judges every alarm again and again, and sets the state of those that have changed.

    Alarms made of alarms follow by themselves.

    Args:
        world: whose CloudWatch it looks at.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop: asyncio.Task[None] | None = None
        self._looked: dict[str, float] = {}  # until when, by alarm

    async def start(self) -> None:
        """Begin to look."""
        self._loop = asyncio.create_task(self._keep_looking(), name="judge alarms")

    async def stop(self) -> None:
        """Look no more."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _keep_looking(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self._look)
            except (BotoCoreError, ClientError) as error:
                log.warning("the alarms cannot be judged: %s", error)
            await asyncio.sleep(max(_SOONEST, _EVERY / self._world.clock.factor))

    def _look(self) -> None:
        watch = self._world.client("cloudwatch")
        for page in watch.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"]):
            for alarm in page["MetricAlarms"]:
                self._judge(watch, alarm)

    def _judge(self, watch: Any, alarm: Members) -> None:
        """Judge every period that has ended since the last look, so that none is missed by looking late."""
        period = _period(alarm)
        until = (self._world.clock.now() - _LATE * self._world.clock.factor) // period * period
        since = self._looked.get(alarm["AlarmName"], until - period)
        self._looked[alarm["AlarmName"]] = until
        new = min(round((until - since) / period), _MOST)
        if new < 1:
            return
        values, width = measured(watch, alarm, until, new - 1), _range(alarm)
        for start in range(new):
            seen = values[start : start + width]
            state = judge(alarm, seen)
            if state == alarm["StateValue"]:
                continue
            reason = f"{seen[-5:]} against {alarm['ComparisonOperator']} {alarm['Threshold']}"
            log.info("alarm %s is %s: %s", alarm["AlarmName"], state, reason)
            key = {"AlarmName": alarm["AlarmName"], "StateValue": state}
            watch.set_alarm_state(**key, StateReason=f"Threshold: {reason}")
            alarm["StateValue"] = state


def judge(alarm: Members, values: Sequence[float | None]) -> str:
    """Say in which state an alarm is, by what was measured in the periods it looks at and in those before.

    Where enough was measured, the newest measurements count, however old; else all do, and a missing one is
    treated as the alarm wants it.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html

    Args:
        alarm: as CloudWatch describes it.
        values: one a period, the newest last; None where nothing was measured.
    """
    periods = alarm["EvaluationPeriods"]
    there = [value for value in values if value is not None]
    values = [*[None] * (periods - len(there)), *there[-periods:]]
    needed = alarm.get("DatapointsToAlarm") or periods
    missing = alarm.get("TreatMissingData", "missing")
    compare = _COMPARISONS[alarm["ComparisonOperator"]]
    breaching = sum(
        missing == "breaching" if value is None else compare(value, alarm["Threshold"]) for value in values
    )
    if breaching >= needed:
        return "ALARM"
    if any(value is not None for value in values) or missing in ("breaching", "notBreaching"):
        return "OK"
    return str(alarm["StateValue"]) if missing == "ignore" else "INSUFFICIENT_DATA"


def measured(watch: Any, alarm: Members, now: float, earlier: int = 0) -> list[float | None]:
    """Return what was measured in each of the last whole periods that an alarm is judged by, oldest first.

    Args:
        watch: a client of CloudWatch.
        earlier: how many periods to return before those.
    """
    queries, period = alarm.get("Metrics") or [_query(alarm)], _period(alarm)
    end = now // period * period
    begin = end - (_range(alarm) + earlier) * period
    answer = watch.get_metric_data(
        MetricDataQueries=queries,
        StartTime=datetime.fromtimestamp(begin, UTC),
        EndTime=datetime.fromtimestamp(end, UTC),
    )
    found: dict[float, float] = {}
    for result in answer["MetricDataResults"]:
        found |= zip((time.timestamp() for time in result["Timestamps"]), result["Values"], strict=True)
    return [found.get(begin + number * period) for number in range(round((end - begin) / period))]


def _range(alarm: Members) -> int:
    """Say how many periods are looked at: some more than needed, for measurements that are late or missing.

    AWS documents 5 where 3 are needed. A single one is not stood in for: what woke a component would wake it
    again when its cooldown is over.
    """
    periods: int = alarm["EvaluationPeriods"]
    return periods + min(periods - 1, 2 + periods // 10)


def _period(alarm: Members) -> int:
    queries = alarm.get("Metrics") or [alarm]
    return max(int(query.get("MetricStat", query).get("Period", 1)) for query in queries)


def _query(alarm: Members) -> Members:
    stat = {
        "Metric": {name: alarm[name] for name in ("Namespace", "MetricName", "Dimensions") if name in alarm},
        "Period": alarm["Period"],
        "Stat": alarm.get("ExtendedStatistic") or alarm["Statistic"],
    }
    return {"Id": "measured", "MetricStat": stat}
