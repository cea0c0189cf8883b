"""Alarms: each tells the topic when it begins and when it is over."""

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.metrics import Metric


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
) -> None:
    """Add an alarm on `metric` being above a limit in each of so many minutes; no data is no alarm.

    One plain metric each: arithmetic on metrics costs as much as an alarm for each of them.
    """
    cloudwatch.CfnAlarm(
        scope,
        id,
        alarm_name=name,
        alarm_description=description,
        namespace=metric.namespace,
        metric_name=metric.name,
        dimensions=[
            cloudwatch.CfnAlarm.DimensionProperty(name=key, value=value)
            for key, value in metric.dimensions.items()
        ],
        statistic=metric.statistic,
        period=60,
        evaluation_periods=minutes,
        comparison_operator="GreaterThanThreshold",
        threshold=above,
        treat_missing_data="notBreaching",
        alarm_actions=[topic.topic_arn],
        ok_actions=[topic.topic_arn],
    )
