"""A cluster whose tasks are real servers, and a load balancer in front of them."""

import json
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from byollm.local.images import know
from tests.local.balancer.conftest import Balancer, make_balancer
from tests.local.running import Platform

APP = Path(__file__).with_name("app.py")
REPOSITORY = "tests/app@sha256:1"
IMAGE = f"123456789012.dkr.ecr.ca-central-1.amazonaws.com/{REPOSITORY}"
PORT = 8000
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def install(platform: Platform) -> None:
    """Have the platform know the image."""
    know(platform.directory, {REPOSITORY: {"argv": [sys.executable, str(APP)], "port": "APP__PORT"}})


@dataclass
class Cluster:
    """A cluster, and short ways to what tests want of it."""

    platform: Platform
    client: Any
    name: str
    network: dict[str, Any]

    def define(self, family: str = "app", /, task: Any = None, **container: Any) -> str:
        """Register a task definition with one container; return its ARN."""
        environment = container.pop("environment", {})
        definition = self.client.register_task_definition(
            family=family,
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            containerDefinitions=[
                {
                    "name": "app",
                    "image": IMAGE,
                    "portMappings": [{"containerPort": PORT, "name": "http", "appProtocol": "http"}],
                    "environment": [{"name": name, "value": value} for name, value in environment.items()],
                    "stopTimeout": 30,
                    **container,
                }
            ],
            **{"cpu": "256", "memory": "512", **(task or {})},
        )
        arn: str = definition["taskDefinition"]["taskDefinitionArn"]
        return arn

    def serve(self, name: str, definition: str, count: int = 1, **members: Any) -> None:
        self.client.create_service(
            cluster=self.name,
            serviceName=name,
            taskDefinition=definition,
            desiredCount=count,
            launchType="FARGATE",
            networkConfiguration=self.network,
            **members,
        )

    def service(self, name: str) -> dict[str, Any]:
        services = self.client.describe_services(cluster=self.name, services=[name])["services"]
        found: dict[str, Any] = services[0]
        return found

    def rollout(self, name: str) -> str:
        state: str = self.service(name)["deployments"][0]["rolloutState"]
        return state

    def tasks(self, name: str) -> list[dict[str, Any]]:
        arns = self.client.list_tasks(cluster=self.name, serviceName=name)["taskArns"]
        if not arns:
            return []
        found: list[dict[str, Any]] = self.client.describe_tasks(cluster=self.name, tasks=arns)["tasks"]
        return found

    def run(self, definition: str, **members: Any) -> str:
        started = self.client.run_task(
            cluster=self.name,
            taskDefinition=definition,
            launchType="FARGATE",
            networkConfiguration=self.network,
            **members,
        )
        arn: str = started["tasks"][0]["taskArn"]
        return arn

    def task(self, arn: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.describe_tasks(cluster=self.name, tasks=[arn])["tasks"][0]
        return found

    def said(self, name: str) -> str:
        return "\n".join(event["message"] for event in self.service(name)["events"])


def address(task: dict[str, Any]) -> str:
    """Where a task's one container listens on this machine."""
    return f"http://127.0.0.1:{task['containers'][0]['networkBindings'][0]['hostPort']}"


def pid(task: dict[str, Any]) -> int:
    """The process of a task's one container."""
    return int(task["containers"][0]["runtimeId"].rpartition("-")[2])


def behind(balancer: Balancer) -> dict[str, Any]:
    """The members of CreateService that put a service behind a balancer."""
    place = {"targetGroupArn": balancer.group, "containerName": "app", "containerPort": PORT}
    return {"loadBalancers": [place], "healthCheckGracePeriodSeconds": 600}


def make_cluster(platform: Platform, name: str) -> Cluster:
    install(platform)
    client = platform.client("ecs")
    client.create_cluster(clusterName=name)
    subnets = platform.client("ec2").describe_subnets()["Subnets"][:2]
    ids = [subnet["SubnetId"] for subnet in subnets]
    return Cluster(platform, client, name, {"awsvpcConfiguration": {"subnets": ids}})


def make_role(platform: Platform) -> str:
    name = f"task-{uuid.uuid4().hex[:8]}"
    made = platform.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    arn: str = made["Role"]["Arn"]
    return arn


@pytest.fixture(scope="session")
def cluster(platform: Platform) -> Cluster:
    return make_cluster(platform, "tests")


@pytest.fixture
def balancer(platform: Platform) -> Balancer:
    return make_balancer(platform, f"ecs-{uuid.uuid4().hex[:8]}")
