"""Scaling and alarms of the account in memory."""

from datetime import UTC, datetime
from typing import Any

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Refused(Exception):
    def __init__(self, message: str, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code


class FakeScaling:
    """Application autoscaling of SageMaker's endpoints and components, and CloudWatch's alarms."""

    endpoints: dict[str, Any]
    components: dict[str, Any]

    def __init__(self) -> None:
        self.targets: dict[str, Any] = {}
        self.policies: dict[tuple[str, str], Any] = {}
        self.alarms: dict[str, Any] = {}

    @staticmethod
    def _get(kind: dict[str, Any], name: str, words: str) -> Any:
        if name not in kind:
            raise Refused(f'Could not find {words} "{name}".')
        return kind[name]

    # Application autoscaling

    def RegisterScalableTarget(self, ResourceId: str, **given: Any) -> None:
        kind, name, *variant = ResourceId.split("/")
        if kind == "endpoint":
            endpoint = self._get(self.endpoints, name, "endpoint")
            assert variant[-1] in {one["VariantName"] for one in endpoint["ProductionVariants"]}
            assert given["MinCapacity"] > 0
            assert endpoint["EndpointStatus"] == "InService"
        else:
            assert self._get(self.components, name, "component")["InferenceComponentStatus"] == "InService"
        self.targets[ResourceId] = given

    def DescribeScalableTargets(self, ServiceNamespace: str, **_: Any) -> dict[str, Any]:
        more = {"RoleARN": "arn:aws:iam::123456789012:role/autoscaling", "CreationTime": NOW}
        targets = [{"ResourceId": name, **target, **more} for name, target in self.targets.items()]
        return {"ScalableTargets": targets}

    def DeregisterScalableTarget(self, ResourceId: str, **_: Any) -> None:
        if ResourceId not in self.targets:
            raise Refused("No scalable target found", "ObjectNotFoundException")
        del self.targets[ResourceId]
        self.policies = {key: value for key, value in self.policies.items() if key[0] != ResourceId}

    def PutScalingPolicy(self, ResourceId: str, PolicyName: str, **given: Any) -> dict[str, Any]:
        if ResourceId not in self.targets:
            raise Refused("No scalable target registered", "ObjectNotFoundException")
        self.policies[ResourceId, PolicyName] = given
        return {"PolicyARN": f"arn:policy/{ResourceId}/{PolicyName}"}

    def DescribeScalingPolicies(self, ServiceNamespace: str, ResourceId: str, **_: Any) -> dict[str, Any]:
        return {
            "ScalingPolicies": [
                {
                    "PolicyARN": f"arn:policy/{resource}/{name}",
                    "ResourceId": resource,
                    "PolicyName": name,
                    **policy,
                    "CreationTime": NOW,
                }
                for (resource, name), policy in self.policies.items()
                if resource == ResourceId
            ]
        }

    def DeleteScalingPolicy(self, ResourceId: str, PolicyName: str, **_: Any) -> None:
        del self.policies[ResourceId, PolicyName]

    # CloudWatch

    def PutMetricAlarm(self, AlarmName: str, **given: Any) -> None:
        self.alarms[AlarmName] = {"StateValue": "INSUFFICIENT_DATA", **given}

    def DescribeAlarms(self, AlarmNamePrefix: str, **_: Any) -> dict[str, Any]:
        return {
            "MetricAlarms": [
                {"AlarmName": name, **{key: value for key, value in alarm.items() if key != "Tags"}}
                for name, alarm in self.alarms.items()
                if name.startswith(AlarmNamePrefix)
            ]
        }

    def DeleteAlarms(self, AlarmNames: list[str]) -> None:
        for name in AlarmNames:
            del self.alarms[name]
