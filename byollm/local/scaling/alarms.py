"""The alarms that move policies: those that target tracking makes for itself, and how an alarm is read.

Alarms are what `PutMetricAlarm` takes and `DescribeAlarms` returns. They are judged here, not by CloudWatch,
so that they go by this world's clock.
"""

import operator
from dataclasses import dataclass
from datetime import UTC, datetime

from byollm.local.protocol import Members
from byollm.local.world import World

OUT_BREACHES = 3  # periods above the target before it adds
IN_S = 900  # seconds below it before it takes away
IN_SHARE = 0.9  # of the target, below which there is more than is needed
LATE = 2  # periods looked at beyond those needed, as the newest may not be there yet

COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


@dataclass(frozen=True)
class Reading:
    """What an alarm says.

    Args:
        breaching: whether its condition holds.
        values: the measurements it was judged by, oldest first.
    """

    breaching: bool
    values: tuple[float, ...]


def tracking_alarms(policy: Members, metric: Members, period: int, identifier: str) -> list[Members]:
    """Define the alarms of a target tracking policy: above its target and, if it scales in, well below."""
    configuration = policy["TargetTrackingScalingPolicyConfiguration"]
    target = configuration["TargetValue"]
    common = {
        **metric,
        "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy['PolicyARN']}.",
        "AlarmActions": [policy["PolicyARN"]],
    }
    name = f"TargetTracking-{policy['ResourceId']}-Alarm"
    high = {
        **common,
        "AlarmName": f"{name}High-{identifier}",
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": target,
        "EvaluationPeriods": OUT_BREACHES,
    }
    low = {
        **common,
        "AlarmName": f"{name}Low-{identifier}",
        "ComparisonOperator": "LessThanThreshold",
        "Threshold": target * IN_SHARE,
        "EvaluationPeriods": IN_S // period,
    }
    return [high] if configuration.get("DisableScaleIn") else [high, low]


def judged(alarm: Members, values: list[float]) -> Reading:
    """Judge an alarm by what was measured in its last periods, oldest first, missing ones left out."""
    periods = alarm["EvaluationPeriods"]
    compare = COMPARISONS[alarm["ComparisonOperator"]]
    recent = values[-periods:]
    breaches = sum(compare(value, alarm["Threshold"]) for value in recent)
    missing = periods - len(recent) if alarm.get("TreatMissingData") == "breaching" else 0
    return Reading(breaches + missing >= alarm.get("DatapointsToAlarm", periods), tuple(recent))


async def read(world: World, alarm: Members) -> Reading:
    """Judge an alarm by what CloudWatch has measured until now.

    Raises:
        BotoCoreError, ClientError: CloudWatch does not answer.
    """
    period = period_of(alarm)
    end = world.clock.now() // period * period
    begin = end - (alarm["EvaluationPeriods"] + LATE) * period
    answer = await world.call(
        "cloudwatch",
        "get_metric_data",
        MetricDataQueries=_queries(alarm),
        StartTime=datetime.fromtimestamp(begin, UTC),
        EndTime=datetime.fromtimestamp(end, UTC),
        ScanBy="TimestampAscending",
    )
    results = answer["MetricDataResults"]
    return judged(alarm, list(results[0]["Values"]) if results else [])


def period_of(alarm: Members) -> int:
    """Return the seconds that one measurement stands for."""
    stats = [query.get("MetricStat", query) for query in alarm.get("Metrics", [])] or [alarm]
    return max(int(stat.get("Period", 60)) for stat in stats)


def _queries(alarm: Members) -> list[Members]:
    if alarm.get("Metrics"):
        queries: list[Members] = alarm["Metrics"]
        return queries
    metric = {key: alarm[key] for key in ("Namespace", "MetricName")}
    statistic = alarm.get("Statistic") or alarm["ExtendedStatistic"]
    stat = {
        "Metric": {**metric, "Dimensions": alarm.get("Dimensions", [])},
        "Period": alarm["Period"],
        "Stat": statistic,
    }
    if "Unit" in alarm:
        stat["Unit"] = alarm["Unit"]
    return [{"Id": "measured", "MetricStat": stat, "ReturnData": True}]
