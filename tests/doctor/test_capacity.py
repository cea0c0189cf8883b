"""Instance types and quotas, each with its faults planted."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from byollm.doctor import Level
from byollm.doctor.capacity import function_quota, instance_types, network_quotas, sagemaker_quotas
from tests.doctor.support import ScriptedAws, connect, found, only, patient

ZONES = ("ca-central-1a", "ca-central-1b")


def offers(*zones: str) -> ScriptedAws:
    offered = [
        {"InstanceType": "g5.4xlarge", "LocationType": "availability-zone", "Location": zone}
        for zone in zones
    ]
    return ScriptedAws({"DescribeInstanceTypeOfferings": {"InstanceTypeOfferings": offered}})


def quotas(**values: float) -> ScriptedAws:
    """SageMaker's quotas, more than a page of them, those of g5.4xlarge by use."""
    rest = [{"QuotaName": f"ml.m5.large for use {number}", "Value": 1.0} for number in range(200)]
    names = {use: f"ml.g5.4xlarge for {use.replace('_', ' ')} usage" for use in values}
    given = [{"QuotaName": names[use], "Value": value} for use, value in values.items()]
    return ScriptedAws({"ListServiceQuotas": {"Quotas": rest + given}})


@pytest.mark.parametrize(
    ("zones", "level", "words"),
    [
        (ZONES, Level.PASS, "ca-central-1a, ca-central-1b"),
        (ZONES[:1], Level.WARN, "ca-central-1a only"),
        (("ca-central-1d",), Level.FAIL, "in ca-central-1d"),
        ((), Level.FAIL, "nowhere"),
    ],
)
def test_instance_types_by_zone(zones: tuple[str, ...], level: Level, words: str) -> None:
    only(found(instance_types, patient(offers(*zones))), level, words)


@mock_aws
def test_every_setting_that_names_an_instance_is_looked_up() -> None:
    lone = {"model_prefix": "m/1/", "instance_type": "g99.nowhere"}
    endpoint, ec2 = found(instance_types, patient(ec2=lone))
    assert "g5.4xlarge" in endpoint.seen
    assert ec2.level == Level.FAIL
    assert "ec2.instance_type" in ec2.remedy


@pytest.mark.parametrize(
    ("has", "level"),
    [(0.0, Level.FAIL), (1.0, Level.FAIL), (2.0, Level.WARN), (9.0, Level.WARN), (10.0, Level.PASS)],
)
def test_a_quota_for_twice_the_fleet(has: float, level: Level) -> None:
    endpoint = {"scaling": {"minimum": 1, "maximum": 5}}
    only(found(sagemaker_quotas, patient(quotas(endpoint=has), endpoint=endpoint))[:1], level)


def test_a_rolling_update_needs_one_batch_more() -> None:
    endpoint = {
        "scaling": {"minimum": 2, "maximum": 4},
        "rollout": {"strategy": "rolling", "step_percent": 25},
    }
    only(found(sagemaker_quotas, patient(quotas(endpoint=5), endpoint=endpoint))[:1], Level.PASS, "needs 5")


def test_a_quota_that_is_not_listed_is_said() -> None:
    only(found(sagemaker_quotas, patient(quotas()))[:1], Level.WARN, "ml.g5.4xlarge for endpoint usage")


@pytest.mark.parametrize(
    ("spot", "quota", "level"),
    [
        (True, {"spot_training_job": 1.0}, Level.PASS),
        (True, {"training_job": 1.0}, Level.WARN),
        (True, {"spot_training_job": 0.0}, Level.WARN),
        (False, {"training_job": 1.0}, Level.PASS),
    ],
)
def test_one_of_the_training_instances_has_to_be_allowed(
    spot: bool, quota: dict[str, float], level: Level
) -> None:
    only(found(sagemaker_quotas, patient(quotas(**quota), jobs={"spot": spot}))[1:], level, "ml.g5.4xlarge")


def network(**changes: Any) -> ScriptedAws:
    """A region with room for one more network, but for `changes`."""
    empty = {
        "DescribeStacks": {"Stacks": []},
        "DescribeVpcs": {"Vpcs": [{"VpcId": "vpc-1"}]},
        "DescribeAddresses": {"Addresses": []},
        "DescribeSubnets": {"Subnets": [{"SubnetId": "subnet-1", "AvailabilityZone": ZONES[0]}]},
        "DescribeNatGateways": {"NatGateways": []},
        "GetServiceQuota": {"Quota": {"Value": 2.0}},
    }
    return ScriptedAws(empty | changes)


def test_room_for_a_network_passes() -> None:
    assert {finding.level for finding in found(network_quotas, patient(network()))} == {Level.PASS}


@pytest.mark.parametrize(
    ("planted", "words"),
    [
        ({"DescribeVpcs": {"Vpcs": [{"VpcId": "vpc-1"}, {"VpcId": "vpc-2"}]}}, "VPCs of the region: 2 of 2"),
        (
            {"DescribeAddresses": {"Addresses": [{"AllocationId": "a"}, {"AllocationId": "b"}]}},
            "Elastic IP addresses: 2 of 2",
        ),
        (
            {"DescribeNatGateways": {"NatGateways": [{"SubnetId": "subnet-1"}, {"SubnetId": "subnet-1"}]}},
            "NAT gateways in ca-central-1a: 2 of 2",
        ),
    ],
)
def test_each_full_quota_of_the_network_fails(planted: dict[str, Any], words: str) -> None:
    findings = found(network_quotas, patient(network(**planted)))
    only([each for each in findings if each.level == Level.FAIL], Level.FAIL, words)


@mock_aws
def test_a_network_that_is_there_needs_no_room() -> None:
    template = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    connect("cloudformation", "ca-central-1").create_stack(
        StackName="byollm-dev-network", TemplateBody=template
    )
    only(found(network_quotas, patient()), Level.PASS, "is there")


@pytest.mark.parametrize(
    ("free", "level"), [(1000, Level.PASS), (107, Level.PASS), (106, Level.FAIL), (10, Level.FAIL)]
)
def test_functions_leave_a_hundred_runs_to_others(free: int, level: Level, tmp_path: Path) -> None:
    for name in "abcdefg":
        (tmp_path / "lambdas" / name).mkdir(parents=True)
        (tmp_path / "lambdas" / name / "handler.py").touch()
    limit = {"AccountLimit": {"UnreservedConcurrentExecutions": free}}
    aws = ScriptedAws({"DescribeStacks": {"Stacks": []}, "GetAccountSettings": limit})
    only(found(function_quota, replace(patient(aws), repository=tmp_path)), level, str(free))


def test_functions_that_are_there_need_no_more_runs() -> None:
    there = {
        "StackName": "byollm-dev-lifecycle",
        "StackStatus": "CREATE_COMPLETE",
        "CreationTime": datetime.now(UTC),
    }
    only(found(function_quota, patient(ScriptedAws({"DescribeStacks": {"Stacks": [there]}}))), Level.PASS)
