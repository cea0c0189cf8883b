"""Alarms that send a new version back, and the one that wakes an endpoint from zero instances."""

import re
from typing import Any

from byollm.aws import Clients, listed
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.wanted import Request, Wanted, agrees

MOST = 10
"""Alarms that one deployment may be watched by.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AutoRollbackConfig.html"""


def guards(deployment: Deployment, wanted: Wanted) -> list[Request]:
    """Return the alarms of what answers requests: the share that fails, and the time it takes.

    Of many variants the ones with most requests are watched.
    """
    if deployment.spec.hosting == "component":
        return _pair(deployment, "main", {"InferenceComponentName": deployment.component})
    heaviest = sorted(wanted.answering, key=lambda variant: variant.weight, reverse=True)[: MOST // 2]
    return [
        alarm
        for variant in heaviest
        for alarm in _pair(
            deployment, variant.name, {"EndpointName": deployment.name, "VariantName": variant.name}
        )
    ]


def _pair(deployment: Deployment, name: str, of: dict[str, str]) -> list[Request]:
    rollout = deployment.spec.rollout
    watched = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": key, "Value": value} for key, value in of.items()],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    return [
        {
            **watched,
            "AlarmName": f"{deployment.alarm_prefix}errors-{name}",
            "AlarmDescription": "Share of requests that failed; sends a new version of the model back",
            "MetricName": "Invocation5XXErrors",  # 1 for each that failed, 0 for each other
            "Threshold": rollout.error_percent / 100,
        },
        {
            **watched,
            "AlarmName": f"{deployment.alarm_prefix}latency-{name}",
            "AlarmDescription": "Microseconds the model takes; sends a new version of the model back",
            "MetricName": "ModelLatency",
            "Threshold": rollout.latency_s * 1e6,
        },
    ]


def waker(deployment: Deployment, policy_arn: str) -> Request:
    """Return the alarm that starts the first copy when a request finds none.

    https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
    """
    return {
        "AlarmName": f"{deployment.alarm_prefix}wake",
        "AlarmDescription": "A request found no copy of the model; starts the first",
        "Namespace": "AWS/SageMaker",
        "MetricName": "NoCapacityInvocationFailures",
        "Dimensions": [{"Name": "InferenceComponentName", "Value": deployment.component}],
        "Statistic": "Maximum",
        "Period": 30,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [policy_arn],
    }


class Alarms:
    """The alarms of one endpoint, as CloudWatch has them."""

    def __init__(self, clients: Clients, deployment: Deployment) -> None:
        self._cloudwatch, self._deployment = clients.client("cloudwatch"), deployment

    def found(self) -> dict[str, Any]:
        """Return those there are, by name."""
        prefix = self._deployment.alarm_prefix
        alarms = listed(self._cloudwatch, "describe_alarms", "MetricAlarms", AlarmNamePrefix=prefix)
        ours = re.compile(rf"{re.escape(prefix)}(errors-.+|latency-.+|wake)")  # not of byollm-dev-endpoint
        return {alarm["AlarmName"]: alarm for alarm in alarms if ours.fullmatch(alarm["AlarmName"])}

    def agree(self, wanted: list[Request], changes: list[str]) -> list[str]:
        """Make or mend those that are wanted; return the names of those that can tell good from bad now.

        One that is in alarm already says nothing about a new version, and SageMaker would send any back.
        """
        found = self.found()
        for alarm in wanted:
            if not agrees(alarm, found.get(alarm["AlarmName"])):
                self._cloudwatch.put_metric_alarm(**alarm, Tags=self._deployment.tags)
                changes.append(f"alarm {alarm['AlarmName']} set")
        names = [alarm["AlarmName"] for alarm in wanted]
        return [name for name in names if found.get(name, {}).get("StateValue") != "ALARM"]

    def remove(self, changes: list[str], keep: set[str] | None = None) -> None:
        """Delete all but those to keep."""
        old = sorted(set(self.found()) - (keep or set()))
        if old:
            self._cloudwatch.delete_alarms(AlarmNames=old)  # as many as 100; there are never that many
            changes.extend(f"alarm {name} deleted" for name in old)
