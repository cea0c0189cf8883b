"""What is declared comes to stand, moves on, is told of when it fails, and goes away."""

from typing import Any

import pytest

from byollm.aws import AwsError
from byollm.lifecycle import EndpointFailed, LifecycleError, Reconciler
from tests.lifecycle.fake import FakeAws
from tests.lifecycle.fake_scaling import Refused
from tests.lifecycle.support import (
    AB,
    CANARY,
    COMPONENT,
    KEY,
    ROLLING,
    SHADOW,
    artefact,
    converge,
    deployment,
    serving,
    take_down,
)

EVERY = {"one": {}, "component": COMPONENT, "canary": CANARY, "ab": AB, "shadow": SHADOW, "rolling": ROLLING}


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


@pytest.fixture(params=EVERY.values(), ids=EVERY.keys())
def spec(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_declared_endpoint_comes_to_stand(aws: FakeAws, spec: Any) -> None:
    declared = deployment(spec)
    steps = converge(aws, declared)
    assert [step.done for step in steps[:-1]] == [False] * (len(steps) - 1)
    assert all(step.waiting_for for step in steps[:-1])
    assert aws.endpoints["byollm-dev"]["EndpointStatus"] == "InService"
    assert list(aws.targets)
    for made in [*aws.given("CreateModel"), *aws.given("CreateEndpointConfig"), *aws.given("PutMetricAlarm")]:
        assert {"Key": "byollm:environment", "Value": "dev"} in made["Tags"]


def test_a_second_convergence_changes_nothing(aws: FakeAws, spec: Any) -> None:
    declared = deployment(spec)
    converge(aws, declared)
    aws.calls.clear()
    (only,) = converge(aws, declared)
    assert only.changes == ()
    assert aws.changes == []


def test_removal_goes_from_the_outside_in(aws: FakeAws) -> None:
    declared = deployment(COMPONENT)
    converge(aws, declared)
    assert Reconciler(aws, declared).left() == [
        "alarm byollm-dev-endpoint-errors-main",
        "alarm byollm-dev-endpoint-latency-main",
        "alarm byollm-dev-endpoint-wake",
        "scalable target inference-component/byollm-dev-main",
        "inference component byollm-dev-main",
        "endpoint byollm-dev",
        f"endpoint configuration {next(iter(aws.configs))}",
        f"model {next(iter(aws.models))}",
    ]
    aws.calls.clear()
    take_down(aws, declared)
    assert aws.changes == [
        "DeleteAlarms",
        "DeregisterScalableTarget",
        "DeleteInferenceComponent",
        "DeleteEndpoint",
        "DeleteEndpointConfig",
        "DeleteModel",
    ]
    assert Reconciler(aws, declared).left() == []


def test_removal_waits_for_an_endpoint_that_is_still_being_made(aws: FakeAws) -> None:
    declared = deployment()
    reconciler = Reconciler(aws, declared)
    reconciler.step(serving(declared))
    progress = reconciler.remove()
    assert not progress.done
    assert progress.waiting_for == "endpoint byollm-dev: Cannot delete in-progress endpoint byollm-dev"
    take_down(aws, declared)
    assert reconciler.left() == []


def test_another_environment_whose_name_begins_alike_is_left_alone(aws: FakeAws) -> None:
    other = deployment(environment="dev-2", name="byollm-dev-2", package_group="byollm-dev-2")
    converge(aws, deployment())
    alone = aws.state()
    converge(aws, other)
    take_down(aws, other)
    assert aws.state() == alone


def test_what_served_before_is_taken_away_only_once_the_new_version_serves(aws: FakeAws) -> None:
    declared = deployment(CANARY)
    converge(aws, declared)
    (old,) = aws.models
    reconciler = Reconciler(aws, declared)
    reconciler.step(serving(declared, 2))
    assert old in aws.models
    aws.settle()
    assert reconciler.step(serving(declared, 2)).done
    assert old not in aws.models


def test_guards_are_there_before_the_update_that_names_them(aws: FakeAws) -> None:
    declared = deployment(CANARY)
    converge(aws, declared)
    converge(aws, declared, serving(declared, 2))
    operations = [name for name, _ in aws.calls]
    assert operations.index("PutMetricAlarm") < operations.index("UpdateEndpoint")
    (update,) = aws.given("UpdateEndpoint")
    policy = update["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert policy["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 300,
    }
    assert update["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"] == [
        {"AlarmName": "byollm-dev-endpoint-errors-main"},
        {"AlarmName": "byollm-dev-endpoint-latency-main"},
    ]


def test_a_guard_already_in_alarm_cannot_judge_the_cure(aws: FakeAws) -> None:
    declared = deployment(CANARY)
    converge(aws, declared)
    aws.alarms["byollm-dev-endpoint-errors-main"]["StateValue"] = "ALARM"
    converge(aws, declared, serving(declared, 2))
    (update,) = aws.given("UpdateEndpoint")
    alarms = update["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert alarms == [{"AlarmName": "byollm-dev-endpoint-latency-main"}]


@pytest.mark.parametrize("spec", [CANARY, ROLLING], ids=["variant", "component"])
def test_a_version_that_was_sent_back_is_told_of_and_not_tried_in_a_circle(aws: FakeAws, spec: Any) -> None:
    declared = deployment(spec)
    converge(aws, declared)
    standing = aws.state()
    aws.going_back = "Alarm byollm-dev-endpoint-errors-main went off."
    for _ in range(2):
        with pytest.raises(
            EndpointFailed, match=r"was sent back: Alarm byollm-dev-endpoint-errors-main went off"
        ):
            converge(aws, declared, serving(declared, 2))
    assert len(aws.given("UpdateEndpoint") + aws.given("UpdateInferenceComponent")) == 1

    aws.going_back = None
    converge(aws, declared)  # back to what is approved
    for kept in (*aws.endpoints.values(), *aws.components.values()):
        kept.pop("FailureReason", None)
    assert aws.state() == standing
    converge(aws, declared, serving(declared, 2))  # and then it may be tried again
    assert {model["PrimaryContainer"]["Image"] for model in aws.models.values()} == {artefact(2).image}


def test_one_that_died_with_its_component_is_buried_whole_and_made_anew(aws: FakeAws) -> None:
    declared = deployment(COMPONENT)
    converge(aws, declared)
    alive = aws.state()
    aws.endpoints["byollm-dev"] |= {"EndpointStatus": "OutOfService", "FailureReason": "No capacity."}
    with pytest.raises(EndpointFailed, match="OutOfService: No capacity"):
        converge(aws, declared)
    assert aws.components == {}
    aws.settle()
    converge(aws, declared)
    assert aws.state() == alive


@pytest.mark.parametrize(
    "refusal", ["Requested image x not found.", "Could not find model data at s3://bucket/versions/."]
)
def test_what_cannot_be_made_is_told_of_and_not_waited_for(
    aws: FakeAws, refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_model(**given: Any) -> None:
        raise Refused(refusal)

    monkeypatch.setattr(aws, "CreateModel", create_model)
    with pytest.raises(AwsError, match=f"CreateModel: {refusal}"):
        converge(aws, deployment())


def test_one_whose_rollback_failed_too_is_brought_to_what_is_declared(aws: FakeAws) -> None:
    declared = deployment(CANARY)
    converge(aws, declared)
    aws.endpoints["byollm-dev"]["EndpointStatus"] = "UpdateRollbackFailed"  # a mixture of both fleets serves
    converge(aws, declared)
    assert len(aws.given("UpdateEndpoint")) == 1
    assert aws.endpoints["byollm-dev"]["EndpointStatus"] == "InService"


@pytest.mark.parametrize("spec", [{}, COMPONENT], ids=["endpoint", "component"])
def test_what_could_not_be_brought_up_is_told_of_and_made_anew(aws: FakeAws, spec: Any) -> None:
    declared = deployment(spec)
    if spec:
        reconciler = Reconciler(aws, declared)
        reconciler.step(serving(declared))
        aws.settle()
    aws.failing = "The container did not pass the ping health check."
    with pytest.raises(EndpointFailed, match=r"did not pass the ping health check.*makes it anew"):
        converge(aws, declared)
    aws.failing = None
    aws.settle()
    converge(aws, declared)
    assert aws.endpoints["byollm-dev"]["EndpointStatus"] == "InService"


def test_counts_stay_and_weights_follow_the_specification_without_a_new_fleet(aws: FakeAws) -> None:
    converge(aws, deployment(AB))
    aws.endpoints["byollm-dev"]["ProductionVariants"][0]["DesiredInstanceCount"] = 4
    shared = {"variants": [{"name": "main", "weight": 1}, {"name": "other", "weight": 3}]}
    converge(aws, deployment(shared))
    assert aws.given("UpdateEndpoint") == []
    main, other = aws.endpoints["byollm-dev"]["ProductionVariants"]
    assert (main["DesiredWeight"], other["DesiredWeight"]) == (1, 3)
    assert main["DesiredInstanceCount"] == 4


def test_more_or_fewer_instances_need_no_new_fleet(aws: FakeAws) -> None:
    converge(aws, deployment())
    converge(aws, deployment({"scaling": {"minimum": 2, "maximum": 8}}))
    assert aws.given("UpdateEndpoint") == []
    target = aws.targets["endpoint/byollm-dev/variant/main"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 8)


def test_a_variant_that_goes_is_scaled_no_longer_before_it_goes(aws: FakeAws) -> None:
    converge(aws, deployment(AB))
    converge(aws, deployment({}))
    (update,) = aws.given("UpdateEndpoint")
    assert "DeploymentConfig" not in update  # only between configurations of the same variants
    assert list(aws.targets) == ["endpoint/byollm-dev/variant/main"]
    assert sorted(aws.alarms) == ["byollm-dev-endpoint-errors-main", "byollm-dev-endpoint-latency-main"]


def test_another_instance_type_is_reached(aws: FakeAws) -> None:
    converge(aws, deployment())
    converge(aws, deployment({"instance_type": "ml.g6.4xlarge"}))
    (config,) = aws.configs.values()
    assert config["ProductionVariants"][0]["InstanceType"] == "ml.g6.4xlarge"
    assert list(aws.targets) == ["endpoint/byollm-dev/variant/main"]


def test_a_variant_with_nothing_to_serve_yet_is_left_out(aws: FakeAws) -> None:
    converge(aws, deployment(AB), {"main": artefact()})
    assert [one["VariantName"] for one in aws.endpoints["byollm-dev"]["ProductionVariants"]] == ["main"]
    with pytest.raises(LifecycleError, match="Publish one"):
        converge(aws, deployment(SHADOW), {"next": artefact()})
    with pytest.raises(LifecycleError, match="has no variant another"):
        converge(aws, deployment(), {"another": artefact()})


def test_an_endpoint_that_sleeps_wakes_for_a_new_version(aws: FakeAws) -> None:
    declared = deployment(COMPONENT)
    converge(aws, declared)
    aws.components["byollm-dev-main"]["RuntimeConfig"] = {"DesiredCopyCount": 0}
    converge(aws, declared)
    assert aws.given("UpdateInferenceComponent") == []
    converge(aws, declared, serving(declared, 2))
    (update,) = aws.given("UpdateInferenceComponent")
    assert update["RuntimeConfig"] == {"CopyCount": 1}


def test_a_renewal_replaces_the_instances_once(aws: FakeAws) -> None:
    declared = deployment()
    converge(aws, declared)
    before = set(aws.configs)
    for _ in range(2):
        Reconciler(aws, declared).renew("2026-01-01T00:00:00Z")
        converge(aws, declared)
    assert len(aws.given("UpdateEndpoint")) == 1
    assert not before & set(aws.configs)
    assert len(aws.configs) == 1


def test_disks_take_the_key_only_where_the_instance_type_does(aws: FakeAws) -> None:
    converge(aws, deployment(kms_key_arn=KEY))
    (config,) = aws.configs.values()
    assert "KmsKeyId" not in config
    cpu = {"instance_type": "ml.c7i.4xlarge", "host_image": None}
    converge(aws, deployment(cpu, kms_key_arn=KEY))
    (config,) = aws.configs.values()
    assert config["KmsKeyId"] == KEY
