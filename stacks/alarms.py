"""Alarms: each tells the topic when it begins and when it is over."""

from typing import Any

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.metrics import Metric

PERIOD_S = 60


def alarm(
    scope: Construct,
    id: str,
    *,
    name: str,
    description: str,
    metric: Metric,
    above: float,
    topic: sns.ITopic,
    minutes: int = 5,
    percent_of: Metric | None = None,
) -> None:
    """Add an alarm on `metric` being above a limit in each of so many minutes; no data is no alarm.

    Args:
        scope: what the alarm is part of.
        id: its name there.
        name: its name in CloudWatch.
        description: what is wrong, for people.
        metric: what is watched.
        above: the limit.
        topic: who is told.
        minutes: how long it has to last.
        percent_of: watch `metric` in percent of this one.
    """
    watched: dict[str, Any] = (
        _watched(metric) if percent_of is None else {"metrics": _share(metric, percent_of)}
    )
    cloudwatch.CfnAlarm(
        scope,
        id,
        alarm_name=name,
        alarm_description=description,
        **watched,
        evaluation_periods=minutes,
        comparison_operator="GreaterThanThreshold",
        threshold=above,
        treat_missing_data="notBreaching",
        alarm_actions=[topic.topic_arn],
        ok_actions=[topic.topic_arn],
    )


def _watched(metric: Metric) -> dict[str, Any]:
    return {
        "namespace": metric.namespace,
        "metric_name": metric.name,
        "dimensions": _dimensions(metric),
        "statistic": metric.statistic,
        "period": PERIOD_S,
    }


def _share(part: Metric, whole: Metric) -> list[cloudwatch.CfnAlarm.MetricDataQueryProperty]:
    query = cloudwatch.CfnAlarm.MetricDataQueryProperty
    return [
        query(id="percent", expression="100 * part / whole", label="percent", return_data=True),
        *(
            query(
                id=id,
                metric_stat=cloudwatch.CfnAlarm.MetricStatProperty(
                    metric=cloudwatch.CfnAlarm.MetricProperty(
                        namespace=metric.namespace,
                        metric_name=metric.name,
                        dimensions=_dimensions(metric),
                    ),
                    period=PERIOD_S,
                    stat=metric.statistic,
                ),
                return_data=False,
            )
            for id, metric in (("part", part), ("whole", whole))
        ),
    ]


def _dimensions(metric: Metric) -> list[cloudwatch.CfnAlarm.DimensionProperty]:
    return [
        cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value)
        for key, value in metric.dimensions.items()
    ]
