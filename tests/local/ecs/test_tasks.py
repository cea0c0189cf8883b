"""Tasks are processes with the environment, secrets, role and end that their definition says."""

import json
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.local import patient
from tests.local.ecs.conftest import IMAGE, Cluster, address, make_role, pid
from tests.local.running import Platform, eventually


def running(cluster: Cluster, arn: str) -> dict[str, Any]:
    eventually(lambda: cluster.task(arn)["lastStatus"] in {"RUNNING", "STOPPED"})
    task = cluster.task(arn)
    assert task["lastStatus"] == "RUNNING", task.get("stoppedReason")
    eventually(lambda: answers(task))
    return task


def answers(task: dict[str, Any]) -> bool:
    try:
        return patient.get(f"{address(task)}/health").status_code == 200
    except httpx.TransportError:
        return False


def stopped(cluster: Cluster, arn: str) -> dict[str, Any]:
    eventually(lambda: cluster.task(arn)["lastStatus"] == "STOPPED")
    return cluster.task(arn)


def test_a_task_is_told_its_variables_secrets_and_port(platform: Platform, cluster: Cluster) -> None:
    secret = platform.client("secretsmanager").create_secret(
        Name="tests/secret", SecretString=json.dumps({"user": "ada", "key": "hush"})
    )["ARN"]
    platform.client("ssm").put_parameter(Name="/tests/parameter", Value="quiet", Type="SecureString")
    definition = cluster.define(
        environment={"APP__HOST": "0.0.0.0", "VERSION": "1"},
        command=["first", "second"],
        secrets=[
            {"name": "WHOLE", "valueFrom": secret},
            {"name": "KEY", "valueFrom": f"{secret}:key::"},
            {"name": "PARAMETER", "valueFrom": "/tests/parameter"},
        ],
    )
    overrides = {"containerOverrides": [{"name": "app", "environment": [{"name": "VERSION", "value": "2"}]}]}
    arn = cluster.run(definition, overrides=overrides)
    task = running(cluster, arn)
    told = patient.get(f"{address(task)}/environment").json()
    assert told["argv"] == ["first", "second"]
    assert (told["VERSION"], told["KEY"], told["PARAMETER"]) == ("2", "hush", "quiet")
    assert json.loads(told["WHOLE"])["user"] == "ada"
    assert told["APP__HOST"] == "127.0.0.1", "a task of this machine is for this machine"
    assert told["AWS_ENDPOINT_URL"] == platform.address
    assert "AWS_ACCESS_KEY_ID" not in told
    assert told["pid"] == pid(task)
    assert "hush" not in json.dumps(task, default=str)
    cluster.client.stop_task(cluster=cluster.name, task=arn, reason="done")
    task = stopped(cluster, arn)
    assert (task["stopCode"], task["stoppedReason"]) == ("UserInitiated", "done")
    assert task["containers"][0]["exitCode"] == 0, "it was not given the time to end"


def test_a_task_has_the_credentials_of_its_role_and_nobody_else_has(
    platform: Platform, cluster: Cluster
) -> None:
    role = make_role(platform)
    arn = cluster.run(cluster.define(task={"taskRoleArn": role}))
    task = running(cluster, arn)
    name = role.rpartition("/")[2]
    assert f":assumed-role/{name}/" in patient.get(f"{address(task)}/role").text
    told = patient.get(f"{address(task)}/environment").json()
    where = told["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    assert patient.get(where).status_code == 403
    token = told["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    assert patient.get(where, headers={"Authorization": token}).json()["RoleArn"] == role
    cluster.client.stop_task(cluster=cluster.name, task=arn)
    stopped(cluster, arn)
    assert patient.get(where, headers={"Authorization": token}).status_code == 403


@pytest.mark.parametrize(
    ("container", "task", "reason"),
    [
        ({"image": IMAGE + "0"}, {}, "CannotPullContainerError"),
        ({"secrets": [{"name": "A", "valueFrom": "/none"}]}, {}, "unable to pull secrets"),
        ({}, {"taskRoleArn": "arn:aws:iam::123456789012:role/none"}, "unable to assume the role"),
    ],
)
def test_a_task_that_cannot_start_says_why(
    cluster: Cluster, container: dict[str, Any], task: dict[str, Any], reason: str
) -> None:
    ended = stopped(cluster, cluster.run(cluster.define(task=task, **container)))
    assert ended["stopCode"] == "TaskFailedToStart"
    assert reason in ended["stoppedReason"]


def test_a_task_ends_with_its_essential_container(cluster: Cluster) -> None:
    ended = stopped(cluster, cluster.run(cluster.define(environment={"CRASH": "1"})))
    assert ended["stopCode"] == "EssentialContainerExited"
    assert ended["containers"][0]["exitCode"] == 1


def test_a_container_waits_for_those_it_depends_on(cluster: Cluster) -> None:
    definition = cluster.client.register_task_definition(
        family="two",
        networkMode="awsvpc",
        containerDefinitions=[
            {
                "name": "second",
                "image": IMAGE,
                "environment": [{"name": "CRASH", "value": "1"}],
                "dependsOn": [{"containerName": "first", "condition": "HEALTHY"}],
            },
            {
                "name": "first",
                "image": IMAGE,
                "essential": False,
                "portMappings": [{"containerPort": 8000}],
                "healthCheck": {"command": ["CMD-SHELL", CHECK], "interval": 300},
            },
        ],
    )["taskDefinition"]["taskDefinitionArn"]
    ended = stopped(cluster, cluster.run(definition))
    first, second = sorted(ended["containers"], key=lambda one: str(one["name"]))
    assert first["healthStatus"] == "HEALTHY"
    assert second["exitCode"] == 1


CHECK = (
    "python -c \"import urllib.request; urllib.request.urlopen('http://localhost:8000/health', timeout=4)\""
    " || exit 1"
)


def test_what_cannot_be_run_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ClientError, match="No Fargate configuration exists"):
        cluster.define(task={"cpu": "256", "memory": "4096"})
    with pytest.raises(ClientError, match="Network Configuration must be provided"):
        cluster.client.run_task(cluster=cluster.name, taskDefinition=cluster.define())
    with pytest.raises(ClientError) as missing:
        cluster.client.run_task(cluster="none", taskDefinition="app")
    assert missing.value.response["Error"]["Code"] == "ClusterNotFoundException"
    with pytest.raises(ClientError, match="entryPoint"):
        cluster.define(entryPoint=["sh"])
