"""What was changed by hand is put back."""

from typing import Any

import pytest

from tests.lifecycle.fake import FakeAws
from tests.lifecycle.support import AB, COMPONENT, converge, deployment


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


def _another_config(aws: FakeAws) -> None:
    (config,) = aws.configs.values()
    variant = config["ProductionVariants"][0] | {"InstanceType": "ml.g5.xlarge"}
    aws.configs["by-hand"] = {**config, "ProductionVariants": [variant]}
    aws.endpoints["byollm-dev"]["EndpointConfigName"] = "by-hand"
    aws.targets.clear()


VARIANT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/byollm-dev/variant/main",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


def _no_target(aws: FakeAws) -> None:
    aws.client("application-autoscaling").deregister_scalable_target(**VARIANT)


def _another_policy(aws: FakeAws) -> None:
    aws.client("application-autoscaling").put_scaling_policy(
        **VARIANT, PolicyName="mine", PolicyType="TargetTrackingScaling"
    )


def _another_specification(aws: FakeAws) -> None:
    aws.components["byollm-dev-main"]["Specification"] |= {"StartupParameters": {}}


def _no_component(aws: FakeAws) -> None:
    del aws.tags[aws.components.pop("byollm-dev-main")["InferenceComponentArn"]]


def _no_endpoint(aws: FakeAws) -> None:
    del aws.tags[aws.endpoints.pop("byollm-dev")["EndpointArn"]]
    aws.targets.clear()
    aws.policies.clear()


def _another_weight(aws: FakeAws) -> None:
    aws.endpoints["byollm-dev"]["ProductionVariants"][0]["DesiredWeight"] = 0.5


DRIFT = {
    "config": ({}, _another_config),
    "weight": (AB, _another_weight),
    "limits": ({}, lambda aws: next(iter(aws.targets.values())).update(MaxCapacity=50)),
    "no target": ({}, _no_target),
    "no policy": (COMPONENT, lambda aws: aws.policies.pop(("inference-component/byollm-dev-main", "wake"))),
    "a policy too many": ({}, _another_policy),
    "no alarm": ({}, lambda aws: aws.alarms.pop("byollm-dev-endpoint-errors-main")),
    "no wake": (COMPONENT, lambda aws: aws.alarms.pop("byollm-dev-endpoint-wake")),
    "threshold": ({}, lambda aws: aws.alarms["byollm-dev-endpoint-latency-main"].update(Threshold=1.0)),
    "component": (COMPONENT, _another_specification),
    "no component": (COMPONENT, _no_component),
    "no model": ({}, lambda aws: aws.models.clear()),
    "no config": ({}, lambda aws: aws.configs.clear()),
    "no endpoint": ({}, _no_endpoint),
}


@pytest.mark.parametrize(("spec", "change"), DRIFT.values(), ids=DRIFT.keys())
def test_what_was_changed_by_hand_is_put_back(aws: FakeAws, spec: Any, change: Any) -> None:
    declared = deployment(spec)
    converge(aws, declared)
    standing = aws.state()
    change(aws)
    assert aws.state() != standing
    converge(aws, declared)
    aws.configs.pop("by-hand", None)  # somebody's; it stays
    assert aws.state() == standing
