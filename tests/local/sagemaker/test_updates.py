"""An update takes over as its deployment says, and an alarm or a bad container sends it back."""

from typing import Any

import pytest

from tests.local.sagemaker.hosting import Hosting, Members, error_of, eventually
from tests.local.sagemaker.test_endpoints import running


def named(hosting: Hosting, name: str, count: int = 1, **environment: str) -> Members:
    """A variant `main` whose container says that it is `name`."""
    variant = hosting.variant(count=count)
    return variant | {"ModelName": hosting.model(NAME=name, **environment)}


def traffic(kind: str, wait_s: int = 240, **sizes: Members) -> Members:
    return {"Type": kind, "WaitIntervalInSeconds": wait_s, **sizes}


def blue_green(routing: Members, termination_s: int = 0, **members: Any) -> Members:
    policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": termination_s}
    return {"BlueGreenUpdatePolicy": policy, **members}


def alarm(hosting: Hosting, state: str) -> Members:
    """An alarm in a state; return the rollback that watches it."""
    name = hosting.name("alarm")
    cloudwatch = hosting.world.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        MetricName="m",
        Namespace="n",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        Statistic="Sum",
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")
    return {"Alarms": [{"AlarmName": name}]}


def says(hosting: Hosting, endpoint: str, calls: int = 20) -> set[str]:
    return {hosting.invoke(endpoint)["name"] for _ in range(calls)}


PERCENT_50: Members = {"Type": "CAPACITY_PERCENT", "Value": 50}


def test_by_default_a_second_fleet_takes_over_at_once_and_no_request_fails(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(named(hosting, "blue"))
    before = hosting.pids(endpoint, calls=4)
    hosting.update(endpoint, named(hosting, "green"))
    while hosting.status(endpoint) == "Updating":
        assert says(hosting, endpoint, calls=1) <= {"blue", "green"}
    described = hosting.settled(endpoint)
    assert says(hosting, endpoint, calls=5) == {"green"}
    assert described["EndpointConfigName"].startswith("config")
    assert not any(map(running, before))
    hosting.delete(endpoint)


def test_a_canary_gets_its_part_of_the_requests_then_all(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(named(hosting, "blue", count=2))
    deployment = blue_green(traffic("CANARY", 3600, CanarySize=PERCENT_50))
    hosting.update(endpoint, named(hosting, "green", count=2), DeploymentConfig=deployment)

    def shared() -> bool:
        described = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)
        status = described["ProductionVariants"][0].get("VariantStatus")
        return status == [{"Status": "ActivatingTraffic"}] and "PendingDeploymentSummary" in described

    eventually(shared)
    eventually(lambda: says(hosting, endpoint, calls=6) == {"blue", "green"})
    described = hosting.hurried(endpoint)
    assert described["LastDeploymentConfig"] == deployment
    assert says(hosting, endpoint) == {"green"}
    hosting.delete(endpoint)


@pytest.mark.parametrize(
    "deployment",
    [
        blue_green(traffic("LINEAR", 3600, LinearStepSize=PERCENT_50)),
        blue_green(traffic("ALL_AT_ONCE"), termination_s=3600),
        {"RollingUpdatePolicy": {"MaximumBatchSize": PERCENT_50, "WaitIntervalInSeconds": 3600}},
    ],
    ids=["linear", "baking", "rolling"],
)
def test_an_alarm_sends_the_new_version_back(hosting: Hosting, deployment: Members) -> None:
    endpoint = hosting.endpoint(named(hosting, "blue", count=2))
    config = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    rollback = alarm(hosting, "OK")
    hosting.update(
        endpoint,
        named(hosting, "green", count=2),
        DeploymentConfig=deployment | {"AutoRollbackConfiguration": rollback},
    )
    eventually(lambda: "green" in says(hosting, endpoint, calls=4))
    name = rollback["Alarms"][0]["AlarmName"]
    hosting.world.client("cloudwatch").set_alarm_state(
        AlarmName=name, StateValue="ALARM", StateReason="a test"
    )
    described = hosting.settled(endpoint)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointConfigName"] == config
    assert f"ALARM state during the deployment: {name}" in described["FailureReason"]
    assert says(hosting, endpoint) == {"blue"}
    assert len(hosting.pids(endpoint, calls=20)) == 2
    hosting.delete(endpoint)


@pytest.mark.parametrize(
    "deployment",
    [{}, {"RollingUpdatePolicy": {"MaximumBatchSize": PERCENT_50, "WaitIntervalInSeconds": 0}}],
    ids=["blue/green", "rolling"],
)
def test_a_version_that_does_not_come_up_changes_nothing(hosting: Hosting, deployment: Members) -> None:
    endpoint = hosting.endpoint(named(hosting, "blue", count=2))
    before = hosting.pids(endpoint, calls=20)
    hosting.update(endpoint, named(hosting, "green", count=2, CRASH="1"), DeploymentConfig=deployment)
    described = hosting.settled(endpoint)
    assert described["EndpointStatus"] == "InService"
    assert "did not pass the ping health check" in described["FailureReason"]
    assert hosting.pids(endpoint, calls=20) == before
    hosting.delete(endpoint)


def test_a_rolling_update_replaces_batch_by_batch(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(named(hosting, "blue", count=2))
    policy = {"MaximumBatchSize": PERCENT_50, "WaitIntervalInSeconds": 3600}
    hosting.update(
        endpoint, named(hosting, "green", count=2), DeploymentConfig={"RollingUpdatePolicy": policy}
    )
    eventually(lambda: says(hosting, endpoint, calls=10) == {"blue", "green"})
    hosting.hurried(endpoint)
    assert says(hosting, endpoint) == {"green"}
    assert len(hosting.pids(endpoint, calls=20)) == 2
    hosting.delete(endpoint)


def test_a_rolling_update_of_several_variants_is_refused(hosting: Hosting) -> None:
    variants = [hosting.variant("a"), hosting.variant("b")]
    endpoint = hosting.endpoint(*variants)
    policy = {"MaximumBatchSize": PERCENT_50, "WaitIntervalInSeconds": 0}
    error = error_of(
        lambda: hosting.update(endpoint, *variants, DeploymentConfig={"RollingUpdatePolicy": policy})
    )
    assert "single variant only" in error["Message"]
    hosting.delete(endpoint)


def test_what_scaling_changed_is_kept_where_asked_for(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(hosting.variant())
    desired = [{"VariantName": "main", "DesiredInstanceCount": 2, "DesiredWeight": 5}]
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint, DesiredWeightsAndCapacities=desired
    )
    hosting.settled(endpoint)
    hosting.update(
        endpoint,
        hosting.variant(),
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    (variant,) = hosting.settled(endpoint)["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (2, 1)
    hosting.delete(endpoint)
