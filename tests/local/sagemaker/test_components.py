"""Inference components are copies of a model that come and go on an endpoint, down to none."""

from typing import Any

from tests.local.sagemaker.hosting import ROLE, TYPE, Hosting, Members, error_of, eventually
from tests.local.sagemaker.test_updates import PERCENT_50, alarm


def host(hosting: Hosting) -> str:
    """An endpoint for components."""
    variant = {
        "VariantName": "main",
        "InstanceType": TYPE,
        "InitialInstanceCount": 1,
        "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 4},
    }
    return hosting.endpoint(variant, ExecutionRoleArn=ROLE)


def specification(hosting: Hosting, name: str, **environment: str) -> Members:
    return {
        "ModelName": hosting.model(NAME=name, **environment),
        "ComputeResourceRequirements": {
            "NumberOfAcceleratorDevicesRequired": 1,
            "MinMemoryRequiredInMb": 1024,
        },
    }


def component(hosting: Hosting, endpoint: str, copies: int = 1, **environment: str) -> str:
    name = hosting.name("component")
    hosting.sagemaker.create_inference_component(
        InferenceComponentName=name,
        EndpointName=endpoint,
        VariantName="main",
        Specification=specification(hosting, "blue", **environment),
        RuntimeConfig={"CopyCount": copies},
    )
    settled(hosting, name)
    return name


def describe(hosting: Hosting, name: str) -> Members:
    described: Members = hosting.sagemaker.describe_inference_component(InferenceComponentName=name)
    return described


def settled(hosting: Hosting, name: str) -> Members:
    eventually(lambda: describe(hosting, name)["InferenceComponentStatus"] in ("InService", "Failed"))
    return describe(hosting, name)


def remove(hosting: Hosting, endpoint: str) -> None:
    """Delete an endpoint and what stands on it."""
    listed = lambda: hosting.sagemaker.list_inference_components(EndpointNameEquals=endpoint)  # noqa: E731
    for one in listed()["InferenceComponents"]:
        hosting.sagemaker.delete_inference_component(InferenceComponentName=one["InferenceComponentName"])
    eventually(lambda: not listed()["InferenceComponents"])
    hosting.delete(endpoint)


def scale(hosting: Hosting, name: str, copies: int) -> Members:
    hosting.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=name, DesiredRuntimeConfig={"CopyCount": copies}
    )
    return settled(hosting, name)


def no_capacity_failures(hosting: Hosting, name: str) -> bool:
    found: Members = hosting.world.client("cloudwatch").list_metrics(
        Namespace="AWS/SageMaker",
        MetricName="NoCapacityInvocationFailures",
        Dimensions=[{"Name": "InferenceComponentName", "Value": name}],
    )
    return bool(found["Metrics"])


def instances(hosting: Hosting, endpoint: str) -> int:
    described = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)
    return int(described["ProductionVariants"][0]["CurrentInstanceCount"])


def test_a_component_answers_scales_to_zero_and_wakes(hosting: Hosting) -> None:
    endpoint = host(hosting)
    name = component(hosting, endpoint)
    to: dict[str, Any] = {"InferenceComponentName": name}
    assert hosting.invoke(endpoint, **to)["name"] == "blue"
    assert describe(hosting, name)["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    assert instances(hosting, endpoint) == 1
    group = f"/aws/sagemaker/InferenceComponents/{name}"
    eventually(lambda: [stream.partition("/i-")[0] for stream, _ in hosting.logged(group)] == ["main"])

    scale(hosting, name, 0)
    assert instances(hosting, endpoint) == 0
    error = error_of(lambda: hosting.invoke(endpoint, **to))
    assert (error["Code"], error["Status"]) == ("ValidationError", 400)
    assert error["Message"].startswith("Inference Component has no capacity to process this request.")
    eventually(lambda: no_capacity_failures(hosting, name))

    described = scale(hosting, name, 2)
    assert described["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert instances(hosting, endpoint) == 2
    assert len(hosting.pids(endpoint, calls=20, **to)) == 2
    remove(hosting, endpoint)


def test_a_component_is_updated_in_batches_and_an_alarm_sends_it_back(hosting: Hosting) -> None:
    endpoint = host(hosting)
    name = component(hosting, endpoint, copies=2)
    to: dict[str, Any] = {"InferenceComponentName": name}

    def says(calls: int = 10) -> set[str]:
        return {hosting.invoke(endpoint, **to)["name"] for _ in range(calls)}

    rollback = alarm(hosting, "OK")
    policy = {"MaximumBatchSize": PERCENT_50, "WaitIntervalInSeconds": 3600}
    hosting.sagemaker.update_inference_component(
        InferenceComponentName=name,
        Specification=specification(hosting, "green"),
        DeploymentConfig={"RollingUpdatePolicy": policy, "AutoRollbackConfiguration": rollback},
    )
    eventually(lambda: says() == {"blue", "green"})
    hosting.world.client("cloudwatch").set_alarm_state(
        AlarmName=rollback["Alarms"][0]["AlarmName"], StateValue="ALARM", StateReason="a test"
    )
    described = settled(hosting, name)
    assert "ALARM state during the deployment" in described["FailureReason"]
    assert says() == {"blue"}

    hosting.sagemaker.update_inference_component(
        InferenceComponentName=name, Specification=specification(hosting, "green")
    )
    described = settled(hosting, name)
    assert "FailureReason" not in described
    assert described["RuntimeConfig"]["CurrentCopyCount"] == 2
    assert says() == {"green"}
    remove(hosting, endpoint)


def test_a_component_that_does_not_come_up_fails_with_the_reason(hosting: Hosting) -> None:
    endpoint = host(hosting)
    name = component(hosting, endpoint, CRASH="1")
    described = describe(hosting, name)
    assert described["InferenceComponentStatus"] == "Failed"
    assert "did not pass the ping health check" in described["FailureReason"]
    remove(hosting, endpoint)


def test_what_aws_refuses_is_refused(hosting: Hosting) -> None:
    endpoint = host(hosting)
    error = error_of(lambda: hosting.invoke(endpoint))
    assert error["Message"].startswith("Inference Component Name header is required")
    name = component(hosting, endpoint, copies=0)
    error = error_of(lambda: hosting.invoke(endpoint, InferenceComponentName="missing"))
    assert "not found" in error["Message"]
    error = error_of(lambda: hosting.sagemaker.delete_endpoint(EndpointName=endpoint))
    assert name in error["Message"]
    remove(hosting, endpoint)

    endpoint = hosting.endpoint(hosting.variant())
    error = error_of(lambda: hosting.invoke(endpoint, InferenceComponentName="x"))
    assert "remove the Inference Component Name header" in error["Message"]
    error = error_of(
        lambda: hosting.sagemaker.create_inference_component(
            InferenceComponentName="x",
            EndpointName=endpoint,
            VariantName="main",
            Specification=specification(hosting, "x"),
            RuntimeConfig={"CopyCount": 1},
        )
    )
    assert "does not support inference components" in error["Message"]
    hosting.delete(endpoint)
