"""Endpoints that SageMaker would refuse are refused here, with the reason and its page of documentation."""

from typing import Any

import pytest
from pydantic import ValidationError

from byollm.settings import EndpointSpec, load_settings

TWO = [{"name": "old", "weight": 9}, {"name": "new", "weight": 1}]
SHADOW = [{"name": "main"}, {"name": "candidate", "shadow": True}]
PAIR = {"minimum": 2}
CPU = {"instance_type": "ml.c7i.4xlarge", "host_image": None}


def spec(**fields: Any) -> EndpointSpec:
    return EndpointSpec.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "reason", "page"),
    [
        (
            {"scaling": {"minimum": 0}},
            "a production variant keeps at least one instance",
            "endpoint-auto-scaling-zero-instances",
        ),
        (
            {"variants": TWO, "scaling": PAIR, "rollout": {"strategy": "rolling"}},
            "several variants cannot be updated in batches",
            "deployment-guardrails-exclusions",
        ),
        (
            {"variants": TWO, "hosting": "component"},
            "has one; the gateway splits",
            "API_CreateInferenceComponent",
        ),
        ({"variants": [*TWO, SHADOW[1]]}, "one variant that answers, and no other", "shadow-tests-create"),
        ({"variants": [SHADOW[1]]}, "one variant that answers, and no other", "shadow-tests-create"),
        ({"rollout": {"strategy": "canary"}}, "one instance has no half", "API_TrafficRoutingConfig"),
        ({"rollout": {"strategy": "linear"}}, "one instance has no half", "API_TrafficRoutingConfig"),
        ({"rollout": {"strategy": "rolling"}}, "one instance has no half", "API_TrafficRoutingConfig"),
        (
            {"rollout": {"strategy": "canary"}, "hosting": "component"},
            "canary shifts requests",
            "API_InferenceComponentDeploymentConfig",
        ),
        (
            {"rollout": {"strategy": "linear", "step_percent": 5}, "scaling": PAIR},
            "10 to 50 percent",
            "API_TrafficRoutingConfig",
        ),
        (
            {"host_image": None},
            "the default host runs CUDA 11.4 at most, and the inference image needs 13.0. "
            "Use al2023-ami-sagemaker-inference-gpu-4-1",
            "API_ProductionVariant",
        ),
        (
            {"host_image": "al2-ami-sagemaker-inference-gpu-2", "image_cuda": "12.4"},
            "Use al2-ami-sagemaker-inference-gpu-3-1 or al2023-ami-sagemaker-inference-gpu-4-1",
            "API_ProductionVariant",
        ),
        ({"image_cuda": "14.1"}, "Build the image on an older CUDA", "API_ProductionVariant"),
        ({"host_image": "al1"}, "host_image: unknown. Known: al2-ami", "API_ProductionVariant"),
        ({"instance_type": "ml.c7i.4xlarge"}, "ml.c7i.4xlarge has none", "API_ProductionVariant"),
        (
            {"weights_gib": 26},
            "26 GiB of weights and 2 GiB to run them are 28 GiB; a GPU of ml.g5.4xlarge (A10G) has 22 GiB",
            "multi-model-support",
        ),
        ({**CPU, "weights_gib": 31}, "ml.c7i.4xlarge has 32 GiB", "multi-model-support"),
    ],
)
def test_the_impossible_is_refused_with_the_reason_and_the_page(
    fields: dict[str, Any], reason: str, page: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        spec(**fields)
    assert reason in str(refusal.value)
    assert "https://docs.aws.amazon.com/" in str(refusal.value)
    assert page in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instance_type": "ml.g5.huge"}, "Known: ml.c7i.2xlarge"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "a name of its own"),
        ({"variants": [{"name": "a", "weight": 0}]}, "a weight above 0"),
        ({"variants": []}, "at least 1"),
        ({"variants": [{"name": "a b"}]}, "pattern"),
        ({"scaling": {"minimum": 6}}, "minimum 6 is more than maximum 5"),
        ({"rollout": {"step_percent": 60}}, "less than or equal to 50"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        spec(**fields)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        CPU,
        {"hosting": "component", "scaling": {"minimum": 0}},
        {"hosting": "component", "rollout": {"strategy": "rolling"}},
        {"variants": TWO, "scaling": PAIR, "rollout": {"strategy": "canary", "step_percent": 5}},
        {"variants": SHADOW},
        {"scaling": PAIR, "rollout": {"strategy": "rolling", "step_percent": 5}},
        {"host_image": "al2-ami-sagemaker-inference-gpu-3-1", "image_cuda": "12.4"},
        {"weights_gib": 20},
    ],
)
def test_what_is_possible_is_taken(fields: dict[str, Any]) -> None:
    spec(**fields)


def test_dev_sleeps_and_prod_shifts_with_care() -> None:
    dev, prod = load_settings("dev").endpoint, load_settings("prod").endpoint
    assert (dev.hosting, dev.scaling.minimum, dev.scaling.maximum) == ("component", 0, 1)
    assert (prod.hosting, prod.scaling.minimum, prod.rollout.strategy) == ("variant", 2, "canary")
