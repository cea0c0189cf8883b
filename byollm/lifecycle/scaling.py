"""How many instances or copies, and when more: targets and policies of application autoscaling."""

from typing import Any

from byollm.aws import Clients, listed
from byollm.lifecycle.deployment import Deployment
from byollm.lifecycle.guards import Alarms, waker
from byollm.lifecycle.wanted import Request, Wanted, agrees

NAMESPACE = "sagemaker"
COPIES, INSTANCES = "sagemaker:inference-component:DesiredCopyCount", "sagemaker:variant:DesiredInstanceCount"

# Sampled every 10 s; a further instance starts within half a minute of the need.
# https://docs.aws.amazon.com/autoscaling/application/APIReference/API_PredefinedMetricSpecification.html
METRICS = {
    COPIES: "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    INSTANCES: "SageMakerVariantConcurrentRequestsPerModelHighResolution",
}


def targets(deployment: Deployment, wanted: Wanted) -> list[Request]:
    """Return what scales: the component's copies, or the instances of each variant that answers."""
    scaling = deployment.spec.scaling
    limits = {"MinCapacity": scaling.minimum, "MaxCapacity": scaling.maximum}
    if deployment.spec.hosting == "component":
        places = [_place(f"inference-component/{deployment.component}")]
    else:
        places = [_place(f"{_variants(deployment)}{variant.name}") for variant in wanted.answering]
    return [{**place, **limits} for place in places]


def policies(deployment: Deployment, wanted: Wanted) -> list[Request]:
    """Return by what they scale: requests under way, and from zero the first request that fails."""
    return [
        policy
        for target in targets(deployment, wanted)
        for policy in _policies(deployment, _place(target["ResourceId"]), target["MinCapacity"])
    ]


def _policies(deployment: Deployment, place: Request, minimum: int) -> list[Request]:
    scaling = deployment.spec.scaling
    tracking = {
        **place,
        "PolicyName": "concurrency",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": float(scaling.concurrency),
            "PredefinedMetricSpecification": {"PredefinedMetricType": METRICS[place["ScalableDimension"]]},
            "ScaleOutCooldown": scaling.out_cooldown_s,
            "ScaleInCooldown": scaling.in_cooldown_s,
        },
    }
    if minimum:
        return [tracking]
    waking = {
        **place,
        "PolicyName": "wake",
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Maximum",
            "Cooldown": 60,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }
    return [tracking, waking]


def _variants(deployment: Deployment) -> str:
    return f"endpoint/{deployment.name}/variant/"


def _place(resource: str) -> Request:
    dimension = COPIES if resource.startswith("inference-component/") else INSTANCES
    return {"ServiceNamespace": NAMESPACE, "ResourceId": resource, "ScalableDimension": dimension}


class Scaling:
    """The targets and policies of one endpoint, as application autoscaling has them."""

    def __init__(self, clients: Clients, deployment: Deployment) -> None:
        self._client = clients.client("application-autoscaling")
        self._alarms, self._deployment = Alarms(clients, deployment), deployment

    def found(self) -> dict[str, Any]:
        """Return the targets there are, by what they scale."""
        every = listed(
            self._client, "describe_scalable_targets", "ScalableTargets", ServiceNamespace=NAMESPACE
        )
        component, variants = f"inference-component/{self._deployment.component}", _variants(self._deployment)
        return {
            target["ResourceId"]: target
            for target in every
            if target["ResourceId"] == component or target["ResourceId"].startswith(variants)
        }

    def agree(self, wanted: Wanted, changes: list[str]) -> None:
        """Register what scales and how, and let go of what does no longer."""
        found, right = self.found(), targets(self._deployment, wanted)
        for target in right:
            if not agrees(target, found.get(target["ResourceId"])):
                self._client.register_scalable_target(**target)
                changes.append(f"{target['ResourceId']} scales")
        self._release(sorted(set(found) - {target["ResourceId"] for target in right}), changes)
        for target in right:
            self._agree_policies(target["ResourceId"], wanted, changes)

    def _agree_policies(self, resource: str, wanted: Wanted, changes: list[str]) -> None:
        place = _place(resource)
        there = listed(
            self._client,
            "describe_scaling_policies",
            "ScalingPolicies",
            ServiceNamespace=NAMESPACE,
            ResourceId=resource,
        )
        found = {policy["PolicyName"]: policy for policy in there}
        right = [one for one in policies(self._deployment, wanted) if one["ResourceId"] == resource]
        for policy in right:
            name = policy["PolicyName"]
            arn = found.get(name, {}).get("PolicyARN")
            if not agrees(policy, found.get(name)):
                arn = self._client.put_scaling_policy(**policy)["PolicyARN"]
                changes.append(f"{resource} scales by {name}")
            if name == "wake":
                self._alarms.agree([waker(self._deployment, arn)], changes)
        for name in sorted(set(found) - {policy["PolicyName"] for policy in right}):
            self._client.delete_scaling_policy(**place, PolicyName=name)
            changes.append(f"{resource} scales by {name} no longer")

    def release_variants(self, names: set[str], changes: list[str]) -> None:
        """Stop scaling these variants.

        SageMaker removes no variant, nor moves it to another instance type, while it is a target.
        """
        resources = {f"{_variants(self._deployment)}{name}" for name in names}
        self._release(sorted(resources & set(self.found())), changes)

    def cap(self, most: int, changes: list[str]) -> None:
        """Let every target have so many and no more, until `agree` is called again."""
        for resource in sorted(self.found()):
            self._client.register_scalable_target(**_place(resource), MinCapacity=most, MaxCapacity=most)
            changes.append(f"{resource} has {most} and scales no further")

    def remove(self, changes: list[str]) -> None:
        """Stop scaling; policies go with their target."""
        self._release(sorted(self.found()), changes)

    def _release(self, resources: list[str], changes: list[str]) -> None:
        for resource in resources:
            self._client.deregister_scalable_target(**_place(resource))
            changes.append(f"{resource} scales no longer")
