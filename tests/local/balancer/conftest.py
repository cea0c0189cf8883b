"""A load balancer in front of two real servers."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.local.running import Platform, eventually
from tests.ports import free_port

SITE = Path(__file__).with_name("site.py")


@contextmanager
def site(name: str) -> Iterator[int]:
    """A server that listens; yields its port."""
    port = free_port()
    line = [sys.executable, str(SITE), str(port), name]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield port
        finally:
            process.kill()


@dataclass
class Balancer:
    """A load balancer with one listener, which forwards to one target group."""

    client: Any
    arn: str
    address: str
    listener: str
    group: str
    vpc: str

    def states(self, group: str | None = None) -> dict[int, str]:
        health = self.client.describe_target_health(TargetGroupArn=group or self.group)
        return {
            one["Target"]["Port"]: one["TargetHealth"]["State"] for one in health["TargetHealthDescriptions"]
        }

    def register(self, *ports: int, group: str | None = None) -> None:
        targets = [{"Id": "127.0.0.1", "Port": port} for port in ports]
        self.client.register_targets(TargetGroupArn=group or self.group, Targets=targets)

    def make_group(self, name: str, **health: Any) -> str:
        group = self.client.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=8000,
            VpcId=self.vpc,
            TargetType="ip",
            **{"HealthCheckPath": "/health", "HealthCheckIntervalSeconds": 300, **health},
        )
        arn: str = group["TargetGroups"][0]["TargetGroupArn"]
        return arn

    def set_group(self, group: str | None = None, **attributes: str) -> None:
        given = [{"Key": key.replace("__", "."), "Value": value} for key, value in attributes.items()]
        self.client.modify_target_group_attributes(TargetGroupArn=group or self.group, Attributes=given)

    def set(self, **attributes: str) -> None:
        given = [{"Key": key.replace("__", "."), "Value": value} for key, value in attributes.items()]
        self.client.modify_load_balancer_attributes(LoadBalancerArn=self.arn, Attributes=given)


def make_balancer(platform: Platform, name: str) -> Balancer:
    client = platform.client("elbv2")
    subnets = platform.client("ec2").describe_subnets()["Subnets"][:2]
    made = client.create_load_balancer(Name=name, Subnets=[subnet["SubnetId"] for subnet in subnets])
    shown = made["LoadBalancers"][0]
    balancer = Balancer(
        client, shown["LoadBalancerArn"], f"http://{shown['DNSName']}", "", "", shown["VpcId"]
    )
    balancer.group = balancer.make_group(f"{name}-group")
    listener = client.create_listener(
        LoadBalancerArn=balancer.arn,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": balancer.group}],
    )
    balancer.listener = listener["Listeners"][0]["ListenerArn"]
    return balancer


@pytest.fixture(scope="session")
def sites() -> Iterator[tuple[int, int]]:
    with site("a") as first, site("b") as second:
        yield first, second


@pytest.fixture(scope="session")
def balancer(platform: Platform, sites: tuple[int, int]) -> Balancer:
    made = make_balancer(platform, "shared")
    made.register(*sites)
    eventually(lambda: set(made.states().values()) == {"healthy"})
    return made
