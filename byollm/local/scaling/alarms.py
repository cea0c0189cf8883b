"""The alarms that move policies: those that target tracking makes for itself, and how an alarm is read.

Alarms are what `PutMetricAlarm` takes and `DescribeAlarms` returns.
"""

import asyncio
from dataclasses import dataclass

from byollm.local.alarms import judge, measured
from byollm.local.protocol import Members
from byollm.local.world import World

OUT_BREACHES = 3  # periods above the target before it adds
IN_S = 900  # seconds below it before it takes away
IN_SHARE = 0.9  # of the target, below which there is more than is needed


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


async def read(world: World, alarm: Members) -> Reading:
    """Judge an alarm by what CloudWatch has measured until now.

    Raises:
        BotoCoreError, ClientError: CloudWatch does not answer.
    """
    now = world.clock.now()
    values = await asyncio.to_thread(lambda: measured(world.client("cloudwatch"), alarm, now))
    there = tuple(value for value in values if value is not None)
    return Reading(judge(alarm, values) == "ALARM", there[-alarm["EvaluationPeriods"] :])
