"""Every endpoint that can be declared gives requests that AWS accepts and that hold together."""

import re
from typing import Any

import pytest
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from byollm.lifecycle import Deployment
from byollm.lifecycle.guards import MOST, guards, waker
from byollm.lifecycle.rollout import SLOWEST_S, component_rollout, endpoint_rollout
from byollm.lifecycle.scaling import policies, targets
from byollm.lifecycle.wanted import Wanted, agrees, lasting, variants_of
from byollm.settings.endpoint import RUNTIME_GIB, EndpointSpec
from byollm.settings.instances import HOST_IMAGES, INSTANCE_TYPES
from tests.lifecycle.fake import FakeAws
from tests.lifecycle.support import AB, COMPONENT, KEY, deployment, serving


@st.composite
def specs(draw: st.DrawFn) -> EndpointSpec:
    """Endpoints of every kind that settings allow."""
    kind = draw(st.sampled_from(sorted(INSTANCE_TYPES)))
    hosting = draw(st.sampled_from(["variant", "component"]))
    names = draw(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=10, unique=True))
    names = names[:1] if hosting == "component" else names
    shadow = len(names) == 2 and draw(st.booleans())
    weights = st.floats(0.001, 1_000_000)
    minimum = draw(st.integers(0 if hosting == "component" else 1, 5))
    strategies = {"all-at-once"}
    if hosting == "component":
        strategies.add("rolling")
    elif minimum > 1:
        strategies |= {"canary", "linear"} | ({"rolling"} if len(names) == 1 else set())
    return EndpointSpec.model_validate(
        {
            "hosting": hosting,
            "instance_type": kind,
            "host_image": draw(st.sampled_from(list(HOST_IMAGES))) if INSTANCE_TYPES[kind].gpus else None,
            "image_cuda": "12.2",
            "weights_gib": draw(st.floats(0.1, INSTANCE_TYPES[kind].model_memory_gib - RUNTIME_GIB)),
            "startup_s": draw(st.integers(60, 3600)),
            "variants": [
                {"name": name, "weight": draw(weights), "shadow": shadow and number == 1}
                for number, name in enumerate(names)
            ],
            "scaling": {
                "minimum": minimum,
                "maximum": minimum + draw(st.integers(0, 9)) or 1,
                "concurrency": draw(st.integers(1, 500)),
                "out_cooldown_s": draw(st.integers(0, 3600)),
                "in_cooldown_s": draw(st.integers(0, 3600)),
            },
            "rollout": {
                "strategy": draw(st.sampled_from(sorted(strategies))),
                "step_percent": draw(st.integers(10, 50)),
                "wait_s": draw(st.integers(0, 3600)),
                "bake_s": draw(st.integers(0, 3600)),
                "error_percent": draw(st.floats(0.1, 100)),
                "latency_s": draw(st.floats(0.1, 600)),
            },
        }
    )


deployments = st.builds(
    lambda spec, key, network: deployment(
        spec,
        kms_key_arn=key,
        subnets=["subnet-0a", "subnet-0b"] if network else [],
        security_groups=["sg-0a"] if network else [],
    ),
    specs(),
    st.sampled_from([None, KEY]),
    st.booleans(),
)


def faults(shape: Any, value: Any, at: str = "") -> list[str]:
    """Say where a value breaks what boto3 leaves to the service: maxima, sets of values, patterns."""
    found = []
    if shape.type_name == "structure":
        for name, member in value.items():
            found += faults(shape.members[name], member, f"{at}.{name}")
    elif shape.type_name == "list":
        for number, member in enumerate(value):
            found += faults(shape.member, member, f"{at}[{number}]")
    documented = shape.metadata
    size = len(value) if shape.type_name in ("string", "list") else value
    if isinstance(size, int | float) and size > documented.get("max", size):
        found.append(f"{at}: {value} is over {documented['max']}")
    if shape.type_name == "string":
        if documented.get("enum") and value not in documented["enum"]:
            found.append(f"{at}: {value} is none of the values")
        pattern = documented.get("pattern", "")
        of_java = "\\p{" in pattern or "\\u" in pattern
        if pattern and not of_java and not re.fullmatch(pattern, value):
            found.append(f"{at}: {value} does not match {pattern}")
    return found


def check(service: str, operation: str, request: dict[str, Any]) -> None:
    shape = FakeAws().client(service).meta.service_model.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    assert faults(shape, request) == []


@settings(max_examples=50, deadline=None)
@given(deployments)
def test_every_declared_endpoint_gives_requests_that_aws_accepts(declared: Deployment) -> None:
    wanted = Wanted(declared, serving(declared))
    tags = {"Tags": declared.tags}
    for name, model in wanted.models.items():
        check("sagemaker", "CreateModel", {"ModelName": name, **model, **tags})
    config = declared.named(lasting(wanted.config))
    check("sagemaker", "CreateEndpointConfig", {"EndpointConfigName": config, **wanted.config, **tags})
    alarms = [alarm["AlarmName"] for alarm in guards(declared, wanted)]
    update: dict[str, Any] = {"EndpointName": declared.name, "EndpointConfigName": config}
    if declared.spec.hosting == "variant":
        update["DeploymentConfig"] = endpoint_rollout(declared.spec.rollout, alarms)
        check("sagemaker", "UpdateEndpoint", update)
    else:
        assert wanted.component is not None
        check("sagemaker", "CreateInferenceComponent", {**wanted.component, **tags})
        rollout = component_rollout(declared.spec.rollout, alarms)
        name = {"InferenceComponentName": declared.component, "Specification": wanted.specification}
        check(
            "sagemaker",
            "UpdateInferenceComponent",
            {**name, "DeploymentConfig": rollout} if rollout else name,
        )
    for alarm in [*guards(declared, wanted), waker(declared, "arn:aws:autoscaling:policy")]:
        check("cloudwatch", "PutMetricAlarm", {**alarm, **tags})
    for target in targets(declared, wanted):
        check("application-autoscaling", "RegisterScalableTarget", target)
    for policy in policies(declared, wanted):
        check("application-autoscaling", "PutScalingPolicy", policy)


@settings(max_examples=50, deadline=None)
@given(deployments)
def test_what_the_requests_say_holds_together(declared: Deployment) -> None:
    spec, wanted = declared.spec, Wanted(declared, serving(declared))
    named = {variant.get("ModelName") for variant in variants_of(wanted.config)}
    if spec.hosting == "component":
        assert named == {None}
        assert {wanted.specification["ModelName"]} == set(wanted.models)
        needs = wanted.specification["ComputeResourceRequirements"]
        memory_mib = INSTANCE_TYPES[spec.instance_type].memory_gib * 1024
        assert memory_mib / 2 < needs["MinMemoryRequiredInMb"] < 0.8 * memory_mib  # one copy, and a host
        assert needs.get("NumberOfAcceleratorDevicesRequired", 0) == INSTANCE_TYPES[spec.instance_type].gpus
    else:
        assert named == set(wanted.models)
    scaled = targets(declared, wanted)
    waking = [policy for policy in policies(declared, wanted) if policy["PolicyName"] == "wake"]
    assert bool(waking) == (spec.scaling.minimum == 0)
    for target in scaled:
        assert 0 <= target["MinCapacity"] <= target["MaxCapacity"]
        assert ("instance" in target["ScalableDimension"].lower()) or spec.hosting == "component"
    if spec.hosting == "component":
        (variant,) = wanted.config["ProductionVariants"]
        managed = variant["ManagedInstanceScaling"]
        assert (managed["MinInstanceCount"], managed["MaxInstanceCount"]) == (
            scaled[0]["MinCapacity"],
            scaled[0]["MaxCapacity"],
        )
    assert len(guards(declared, wanted)) <= MOST
    for model in wanted.models.values():
        assert model["EnableNetworkIsolation"] is True
        assert "Environment" not in model["PrimaryContainer"]  # Describe calls would show it
        assert ("VpcConfig" in model) == bool(declared.subnets)
    has_key = declared.kms_key_arn is not None and not INSTANCE_TYPES[spec.instance_type].gpus
    assert ("KmsKeyId" in wanted.config) == has_key
    policy = endpoint_rollout(spec.rollout, []).get("BlueGreenUpdatePolicy")
    if policy:
        waits = policy["TerminationWaitInSeconds"]
        waits += policy["TrafficRoutingConfiguration"]["WaitIntervalInSeconds"]
        assert waits < SLOWEST_S


@settings(max_examples=25, deadline=None)
@given(deployments)
def test_names_stand_for_content_and_nothing_else(declared: Deployment) -> None:
    first, again, other = (Wanted(declared, serving(declared, version)) for version in (1, 1, 2))
    assert first.models == again.models
    assert not set(first.models) & set(other.models)
    for name in first.models:
        assert declared.owns(name)
    scaled = declared.spec.scaling.model_copy(update={"maximum": declared.spec.scaling.maximum + 1})
    more = declared.model_copy(update={"spec": declared.spec.model_copy(update={"scaling": scaled})})
    same = lasting(Wanted(more, serving(declared)).config) == lasting(first.config)
    assert same == (declared.spec.hosting == "variant")  # a variant's limits are its target's


def test_a_model_of_another_environment_is_not_ours() -> None:
    declared = deployment()
    assert declared.owns("byollm-dev-0123456789ab")
    assert not declared.owns("byollm-dev-2-0123456789ab")
    assert not declared.owns("byollm-dev-0123456789abc")


def test_shares_and_first_counts_are_no_reason_for_a_new_configuration() -> None:
    even, uneven = deployment(AB), deployment({**AB, "scaling": {"minimum": 3}})
    assert lasting(Wanted(even, serving(even)).config) == lasting(Wanted(uneven, serving(uneven)).config)


def test_agreement_overlooks_what_aws_adds_and_nothing_else() -> None:
    wanted = {"a": 1, "list": [{"x": 1}, {"x": 2}]}
    assert agrees(wanted, {"a": 1, "b": 2, "list": [{"x": 2, "y": 0}, {"x": 1}]})
    assert not agrees(wanted, {"a": 1, "list": [{"x": 1}]})
    assert not agrees(wanted, {"a": 2, "list": [{"x": 1}, {"x": 2}]})
    assert not agrees(wanted, None)


@pytest.mark.parametrize("strategy", ["all-at-once", "rolling"])
def test_a_component_changes_in_batches_or_at_once(strategy: str) -> None:
    declared = deployment({**COMPONENT, "rollout": {"strategy": strategy}})
    rollout = component_rollout(declared.spec.rollout, ["alarm"])
    assert (rollout is None) == (strategy == "all-at-once")
