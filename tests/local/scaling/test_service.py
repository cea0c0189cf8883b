"""Application Auto Scaling with an unmodified boto3: what it scales is changed, and it can be seen why."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from starlette.applications import Starlette
from starlette.routing import Route

from byollm.local.protocol import AwsError, JsonService, Members
from byollm.local.scaling import AutoScaling
from byollm.local.world import World
from tests.local import patient
from tests.local.front import Front
from tests.local.running import eventually

VARIANT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/chat/variant/main",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
COMPONENT = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "inference-component/chat-main",
    "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
}
TASKS = {
    "ServiceNamespace": "ecs",
    "ResourceId": "service/byollm-dev/gateway",
    "ScalableDimension": "ecs:service:DesiredCount",
}
BY_CONCURRENCY = {
    "TargetValue": 4.0,
    "PredefinedMetricSpecification": {
        "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    },
    "ScaleOutCooldown": 60,
    "ScaleInCooldown": 300,
}
CONCURRENCY = ("AWS/SageMaker", "ConcurrentRequestsPerModel", {"EndpointName": "chat", "VariantName": "main"})


class SageMaker(JsonService):
    """One endpoint with one variant, and one component: counts that are changed at once."""

    def __init__(self) -> None:
        super().__init__("sagemaker")
        self.instances, self.copies, self.status = 1, 0, "InService"
        self.asked: list[int] = []  # of its component, one after the other
        self.app = Starlette(routes=[Route("/", self.answer, methods=["POST"])])

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def describe_endpoint(self, given: Members) -> Members:
        if given["EndpointName"] != "chat":
            raise AwsError("ValidationException", "Could not find endpoint")
        variant = {"VariantName": "main", "DesiredInstanceCount": self.instances}
        return {"EndpointName": "chat", "EndpointStatus": self.status, "ProductionVariants": [variant]}

    async def update_endpoint_weights_and_capacities(self, given: Members) -> Members:
        self.instances = given["DesiredWeightsAndCapacities"][0]["DesiredInstanceCount"]
        return {"EndpointArn": "arn:aws:sagemaker:::endpoint/chat"}

    async def describe_inference_component(self, given: Members) -> Members:
        return {"InferenceComponentStatus": "InService", "RuntimeConfig": {"DesiredCopyCount": self.copies}}

    async def update_inference_component_runtime_config(self, given: Members) -> Members:
        self.copies = given["DesiredRuntimeConfig"]["CopyCount"]
        self.asked.append(self.copies)
        return {"InferenceComponentArn": "arn:aws:sagemaker:::inference-component/chat-main"}


class Ecs(JsonService):
    """One service with tasks."""

    def __init__(self) -> None:
        super().__init__("ecs")
        self.tasks = 2
        self.asked: list[int] = []
        self.app = Starlette(routes=[Route("/", self.answer, methods=["POST"])])

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def describe_services(self, given: Members) -> Members:
        return {"services": [{"serviceName": "gateway", "status": "ACTIVE", "desiredCount": self.tasks}]}

    async def update_service(self, given: Members) -> Members:
        self.tasks = given["desiredCount"]
        self.asked.append(self.tasks)
        return {}


@pytest.fixture
def sagemaker() -> SageMaker:
    return SageMaker()


@pytest.fixture
def ecs() -> Ecs:
    return Ecs()


@pytest.fixture
def world(front: Front, moto: str, tmp_path: Path, sagemaker: SageMaker, ecs: Ecs) -> Iterator[World]:
    def services(world: World) -> dict[str, Any]:
        return {"application-autoscaling": AutoScaling(world), "sagemaker": sagemaker, "ecs": ecs}

    with front(tmp_path, services, factor=60) as world:
        yield world
    patient.post(f"{moto}/moto-api/reset")  # one test's measurements are not the next one's


@pytest.fixture
def scaling(world: World) -> Any:
    return world.client("application-autoscaling")


def measure(world: World, metric: tuple[str, str, dict[str, str]], value: float, period: int = 10) -> None:
    """Have a metric stand at a value for the last 20 minutes, and the next two hours."""
    namespace, name, dimensions = metric
    now = world.clock.now() // period * period
    world.client("cloudwatch").put_metric_data(
        Namespace=namespace,
        MetricData=[
            {
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
                "Timestamp": datetime.fromtimestamp(now + step * period, UTC),
                "Value": value,
            }
            for step in range(-1200 // period, 7200 // period)
        ],
    )


def _alarms(world: World) -> list[dict[str, Any]]:
    """The alarms of this test's target; others' tests leave theirs in the one moto."""
    found = world.client("cloudwatch").describe_alarms(AlarmNamePrefix="TargetTracking-endpoint/chat/")
    alarms: list[dict[str, Any]] = found["MetricAlarms"]
    return alarms


def test_a_busy_variant_gets_instances_up_to_its_maximum(
    world: World, scaling: Any, sagemaker: SageMaker
) -> None:
    scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=3)
    scaling.put_scaling_policy(
        **VARIANT,
        PolicyName="concurrency",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=BY_CONCURRENCY,
    )
    measure(world, CONCURRENCY, 7)
    # 7 requests, 4 on each, make it 2; each of two has 7 then: 4 would be needed, 3 are allowed.
    eventually(lambda: sagemaker.instances == 3)
    high, low = _alarms(world)
    activities = scaling.describe_scaling_activities(ServiceNamespace="sagemaker")["ScalingActivities"]
    assert [activity["Description"] for activity in activities] == [
        "Setting desired instance count to 3.",
        "Setting desired instance count to 2.",
    ]
    assert activities[1]["StatusCode"] == "Successful"
    assert activities[1]["StatusMessage"] == (
        "Successfully set desired instance count to 2. Change successfully fulfilled by sagemaker."
    )
    assert high["AlarmName"] in activities[1]["Cause"]
    assert high["AlarmName"].startswith("TargetTracking-endpoint/chat/variant/main-AlarmHigh-")
    assert (high["Period"], high["EvaluationPeriods"], high["Threshold"]) == (10, 3, 4.0)
    assert (low["Period"], low["EvaluationPeriods"], low["Threshold"]) == (10, 90, 3.6)


def test_an_idle_variant_is_left_with_its_minimum(world: World, scaling: Any, sagemaker: SageMaker) -> None:
    sagemaker.instances = 3
    scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=3)
    scaling.put_scaling_policy(
        **VARIANT,
        PolicyName="concurrency",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=BY_CONCURRENCY,
    )
    measure(world, CONCURRENCY, 0)
    eventually(lambda: sagemaker.instances == 1)


def test_a_component_falls_asleep_and_a_call_wakes_it(
    world: World, scaling: Any, sagemaker: SageMaker
) -> None:
    sagemaker.copies = 1
    scaling.register_scalable_target(**COMPONENT, MinCapacity=0, MaxCapacity=2)
    kind = "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
    scaling.put_scaling_policy(
        **COMPONENT,
        PolicyName="concurrency",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 4.0,
            "PredefinedMetricSpecification": {"PredefinedMetricType": kind},
        },
    )
    wake = scaling.put_scaling_policy(
        **COMPONENT,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
            "Cooldown": 60,
        },
    )
    dimensions = {"InferenceComponentName": "chat-main"}
    world.client("cloudwatch").put_metric_alarm(
        AlarmName="wake",
        Namespace="AWS/SageMaker",
        MetricName="NoCapacityInvocationFailures",
        Dimensions=[{"Name": "InferenceComponentName", "Value": "chat-main"}],
        Statistic="Maximum",
        Period=30,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        AlarmActions=[wake["PolicyARN"]],
    )
    measure(world, ("AWS/SageMaker", "ConcurrentRequestsPerCopy", dimensions), 0)
    eventually(lambda: sagemaker.asked == [0])
    measure(world, ("AWS/SageMaker", "NoCapacityInvocationFailures", dimensions), 1, period=30)
    eventually(lambda: sagemaker.asked[:2] == [0, 1])
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert {policy["PolicyName"]: len(policy["Alarms"]) for policy in policies} == {
        "concurrency": 2,
        "wake": 1,
    }


def test_a_service_gets_tasks_by_the_busiest_of_its_metrics(world: World, scaling: Any, ecs: Ecs) -> None:
    scaling.register_scalable_target(**TASKS, MinCapacity=1, MaxCapacity=10)
    label = "app/byollm/0123456789abcdef/targetgroup/gateway/0123456789abcdef"
    policies: dict[str, tuple[float, dict[str, str]]] = {
        "requests": (100.0, {"PredefinedMetricType": "ALBRequestCountPerTarget", "ResourceLabel": label}),
        "cpu": (70.0, {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}),
    }
    dimensions = {"ClusterName": "byollm-dev", "ServiceName": "gateway"}
    measure(world, ("AWS/ECS", "CPUUtilization", dimensions), 100, period=60)  # asks for 3
    balanced = {
        "LoadBalancer": "app/byollm/0123456789abcdef",
        "TargetGroup": "targetgroup/gateway/0123456789abcdef",
    }
    measure(world, ("AWS/ApplicationELB", "RequestCountPerTarget", balanced), 250, period=60)  # asks for 5
    for name, (target, metric) in policies.items():
        configuration = {"TargetValue": target, "PredefinedMetricSpecification": metric}
        scaling.put_scaling_policy(
            **TASKS,
            PolicyName=name,
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={**configuration, "ScaleOutCooldown": 3600},
        )
    eventually(lambda: ecs.asked != [])
    assert ecs.asked[0] == 5


def test_what_is_outside_its_bounds_is_brought_inside(scaling: Any, ecs: Ecs) -> None:
    scaling.register_scalable_target(**TASKS, MinCapacity=4, MaxCapacity=6)
    eventually(lambda: ecs.tasks == 4)
    scaling.register_scalable_target(**TASKS, MinCapacity=1, MaxCapacity=2)
    eventually(lambda: ecs.tasks == 2)
    causes = [
        activity["Cause"] for activity in scaling.describe_scaling_activities(**TASKS)["ScalingActivities"]
    ]
    assert causes == ["maximum capacity was set to 2", "minimum capacity was set to 4"]


def test_an_endpoint_being_updated_is_left_alone(world: World, scaling: Any, sagemaker: SageMaker) -> None:
    scaling.register_scalable_target(**VARIANT, MinCapacity=2, MaxCapacity=3)
    eventually(lambda: sagemaker.instances == 2)
    sagemaker.status = "Updating"
    scaling.register_scalable_target(**VARIANT, MinCapacity=3, MaxCapacity=3)
    begun = world.clock.now()
    eventually(lambda: world.clock.now() > begun + 60)
    assert sagemaker.instances == 2
    sagemaker.status = "InService"
    eventually(lambda: sagemaker.instances == 3)


def test_a_target_takes_its_policies_and_alarms_with_it(world: World, scaling: Any) -> None:
    scaling.register_scalable_target(**VARIANT, MinCapacity=1, MaxCapacity=3, Tags={"of": "test"})
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    tags = scaling.list_tags_for_resource(ResourceARN=target["ScalableTargetARN"])["Tags"]
    assert tags == {"of": "test"}
    scaling.put_scaling_policy(
        **VARIANT,
        PolicyName="concurrency",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=BY_CONCURRENCY,
    )
    assert len(_alarms(world)) == 2
    scaling.put_scaling_policy(
        **VARIANT,
        PolicyName="concurrency",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={**BY_CONCURRENCY, "DisableScaleIn": True},
    )
    assert len(_alarms(world)) == 1
    scaling.deregister_scalable_target(**VARIANT)
    assert _alarms(world) == []
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []


def test_what_cannot_be_is_refused_by_name(scaling: Any) -> None:
    def code(operation: Callable[..., Any], **given: Any) -> str:
        with pytest.raises(ClientError) as caught:
            operation(**given)
        return str(caught.value.response["Error"]["Code"])

    register, put = scaling.register_scalable_target, scaling.put_scaling_policy
    missing = {**VARIANT, "ResourceId": "endpoint/none/variant/main"}
    assert code(register, **missing, MinCapacity=1, MaxCapacity=2) == "ValidationException"
    assert code(register, **VARIANT, MinCapacity=0, MaxCapacity=2) == "ValidationException"
    assert code(register, **TASKS, MinCapacity=3, MaxCapacity=2) == "ValidationException"
    assert (
        code(register, **{**TASKS, "ScalableDimension": VARIANT["ScalableDimension"]})
        == "ValidationException"
    )
    policy = {"PolicyName": "p", "PolicyType": "TargetTrackingScaling"}
    configuration = {"TargetTrackingScalingPolicyConfiguration": BY_CONCURRENCY}
    assert code(put, **VARIANT, **policy, **configuration) == "ObjectNotFoundException"
    register(**TASKS, MinCapacity=1, MaxCapacity=2)
    assert code(put, **TASKS, **policy, **configuration) == "ValidationException"
    assert code(put, **TASKS, **policy) == "ValidationException"
    nothing = {**BY_CONCURRENCY, "TargetValue": 0.0}
    zero = {"TargetTrackingScalingPolicyConfiguration": nothing}
    register(**VARIANT, MinCapacity=1, MaxCapacity=2)
    assert code(put, **VARIANT, **policy, **zero) == "ValidationException"
    scaling.deregister_scalable_target(**VARIANT)
    assert code(scaling.delete_scaling_policy, **TASKS, PolicyName="p") == "ObjectNotFoundException"
    assert code(scaling.deregister_scalable_target, **VARIANT) == "ObjectNotFoundException"


def test_targets_and_policies_outlive_a_restart(front: Front, tmp_path: Path, sagemaker: SageMaker) -> None:
    def services(world: World) -> dict[str, Any]:
        return {"application-autoscaling": AutoScaling(world), "sagemaker": sagemaker}

    with front(tmp_path, services, factor=60) as world:
        world.client("application-autoscaling").register_scalable_target(
            **VARIANT, MinCapacity=1, MaxCapacity=3
        )
    sagemaker.instances = 9
    with front(tmp_path, services, factor=60):
        eventually(lambda: sagemaker.instances == 3)
