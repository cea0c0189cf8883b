"""The API of load balancers, as boto3 sees it."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.local import patient
from tests.local.balancer.conftest import Balancer, make_balancer
from tests.local.running import Platform, eventually


def test_what_was_made_is_described(balancer: Balancer) -> None:
    shown = balancer.client.describe_load_balancers(Names=["shared"])["LoadBalancers"][0]
    assert shown["LoadBalancerArn"] == balancer.arn
    assert len(shown["AvailabilityZones"]) == 2
    assert shown["State"]["Code"] == "active"
    assert isinstance(shown["CreatedTime"], datetime)
    groups = balancer.client.describe_target_groups(LoadBalancerArn=balancer.arn)["TargetGroups"]
    assert groups[0]["LoadBalancerArns"] == [balancer.arn]
    assert groups[0]["Matcher"] == {"HttpCode": "200"}


def test_attributes_have_defaults_and_bounds(balancer: Balancer) -> None:
    listed = balancer.client.describe_load_balancer_attributes(LoadBalancerArn=balancer.arn)["Attributes"]
    assert {"Key": "idle_timeout.timeout_seconds", "Value": "60"} in listed
    with pytest.raises(ClientError, match=r"idle_timeout\.timeout_seconds"):
        balancer.set(idle_timeout__timeout_seconds="4001")
    with pytest.raises(ClientError, match="not recognized"):
        balancer.set(idle_timeout="60")


def test_tags_are_kept(balancer: Balancer) -> None:
    for arn in (balancer.arn, balancer.group, balancer.listener):
        balancer.client.add_tags(
            ResourceArns=[arn], Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
        )
        balancer.client.remove_tags(ResourceArns=[arn], TagKeys=["a"])
        tags = balancer.client.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"]
        assert tags == [{"Key": "b", "Value": "2"}]


def test_a_deleted_balancer_listens_no_more_unless_it_is_protected(platform: Platform) -> None:
    balancer = make_balancer(platform, "gone")
    balancer.set(deletion_protection__enabled="true")
    with pytest.raises(ClientError, match="deletion protection"):
        balancer.client.delete_load_balancer(LoadBalancerArn=balancer.arn)
    balancer.set(deletion_protection__enabled="false")
    balancer.client.delete_load_balancer(LoadBalancerArn=balancer.arn)
    with pytest.raises(httpx.ConnectError):
        patient.get(balancer.address)
    with pytest.raises(ClientError) as missing:
        balancer.client.describe_listeners(LoadBalancerArn=balancer.arn)
    assert missing.value.response["Error"]["Code"] == "LoadBalancerNotFound"
    balancer.client.delete_target_group(TargetGroupArn=balancer.group)


def test_requests_are_counted_where_alarms_look(platform: Platform, balancer: Balancer) -> None:
    patient.get(balancer.address)
    cloudwatch = platform.client("cloudwatch")
    names = {"LoadBalancer": balancer.arn.partition(":loadbalancer/")[2]}
    group = balancer.group.rpartition(":")[2]

    def total(metric: str, **dimensions: str) -> float:
        now = datetime.now(UTC)
        statistics = cloudwatch.get_metric_statistics(
            Namespace="AWS/ApplicationELB",
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(days=60),  # its clock is ahead of this one
            Period=86400,
            Statistics=["Sum"],
        )
        return sum(point["Sum"] for point in statistics["Datapoints"])

    eventually(lambda: total("RequestCount", **names) >= 1)
    eventually(lambda: total("RequestCountPerTarget", TargetGroup=group) > 0)
    eventually(lambda: total("RequestCountPerTarget", **names, TargetGroup=group) > 0)
    eventually(lambda: total("HTTPCode_Target_2XX_Count", **names, TargetGroup=group) >= 1)
    eventually(lambda: total("TargetResponseTime", **names) > 0)
    eventually(lambda: total("HealthyHostCount", **names, TargetGroup=group) >= 1)
