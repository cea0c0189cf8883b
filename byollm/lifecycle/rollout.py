"""How a new version takes over, and the memory of one that was sent back."""

from typing import Any

from byollm.aws import listed
from byollm.lifecycle.wanted import Request
from byollm.settings.endpoint import RolloutSpec

SLOWEST_S = 28800
"""The longest that SageMaker lets a deployment take."""

ATTEMPT = "byollm:rollout"
"""Tag: the version that is taking over, or was sent back. It is empty once what runs is what was wanted."""

RENEWAL = "byollm:renewal"
"""Tag: why the endpoint last got a fresh set of instances."""


def endpoint_rollout(rollout: RolloutSpec, alarms: list[str]) -> Request:
    """Return the `DeploymentConfig` of an endpoint whose variants carry the model.

    https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails.html
    """
    size = {"Type": "CAPACITY_PERCENT", "Value": rollout.step_percent}
    if rollout.strategy == "rolling":
        batches = {"MaximumBatchSize": size, "WaitIntervalInSeconds": rollout.wait_s}
        policy: Request = {"RollingUpdatePolicy": {**batches, **_patience()}}
    else:
        shift: Request = {
            "Type": {"all-at-once": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}[rollout.strategy],
            "WaitIntervalInSeconds": rollout.wait_s,
        }
        if rollout.strategy == "canary":
            shift["CanarySize"] = size
        if rollout.strategy == "linear":
            shift["LinearStepSize"] = size
        policy = {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": shift,
                "TerminationWaitInSeconds": rollout.bake_s,
                **_patience(),
            }
        }
    return {**policy, **_rollback(alarms)}


def component_rollout(rollout: RolloutSpec, alarms: list[str]) -> Request | None:
    """Return the `DeploymentConfig` of an inference component; None where it changes all at once.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_InferenceComponentDeploymentConfig.html
    """
    if rollout.strategy == "all-at-once":
        return None
    size = {"Type": "CAPACITY_PERCENT", "Value": rollout.step_percent}
    batches = {"MaximumBatchSize": size, "WaitIntervalInSeconds": rollout.wait_s}
    return {"RollingUpdatePolicy": {**batches, **_patience()}, **_rollback(alarms)}


def _patience() -> Request:
    return {"MaximumExecutionTimeoutInSeconds": SLOWEST_S}


def _rollback(alarms: list[str]) -> Request:
    if not alarms:
        return {}
    return {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in alarms]}}


def tag_of(sagemaker: Any, arn: str, key: str) -> str:
    """Return a tag's value; nothing where there is no such tag."""
    tags = listed(sagemaker, "list_tags", "Tags", ResourceArn=arn)
    return next((tag["Value"] for tag in tags if tag["Key"] == key), "")


def remember(sagemaker: Any, arn: str, attempt: str) -> None:
    """Write down which version is taking over; nothing, once what runs is what was wanted."""
    if tag_of(sagemaker, arn, ATTEMPT) != attempt:
        sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": ATTEMPT, "Value": attempt}])
