"""Services keep their tasks running behind a load balancer, through crashes and deployments."""

import os
import signal
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.local import patient
from tests.local.balancer.conftest import Balancer
from tests.local.ecs.conftest import Cluster, behind, pid
from tests.local.running import eventually

BREAKER = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}


class Visitor:
    """A client that asks all the time, and notes what it gets."""

    def __init__(self, address: str) -> None:
        self.answers: Counter[str | int] = Counter()
        self._address, self._ends = address, threading.Event()
        self._thread = threading.Thread(target=self._visit)

    def __enter__(self) -> "Visitor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _visit(self) -> None:
        while not self._ends.is_set():
            response = patient.get(self._address)
            self.answers[response.text if response.status_code == 200 else response.status_code] += 1


def answers(address: str) -> bool:
    try:
        return bool(patient.get(address).text)
    except httpx.TransportError:
        return False


def version(number: str, **more: str) -> dict[str, Any]:
    return {"environment": {"VERSION": number, **more}}


def test_a_deployment_loses_no_request_and_a_bad_one_is_taken_back(
    cluster: Cluster, balancer: Balancer
) -> None:
    cluster.serve(
        "rolling",
        cluster.define("rolling", **version("1")),
        2,
        deploymentConfiguration=BREAKER,
        **behind(balancer),
    )
    eventually(lambda: cluster.rollout("rolling") == "COMPLETED", 90)
    with Visitor(balancer.address) as visitor:
        second = cluster.define("rolling", **version("2"))
        cluster.client.update_service(cluster=cluster.name, service="rolling", taskDefinition=second)
        eventually(lambda: cluster.rollout("rolling") == "COMPLETED", 90)
        eventually(lambda: visitor.answers["2"] > 5)
        assert {task["taskDefinitionArn"] for task in cluster.tasks("rolling")} == {second}

        broken = cluster.define("rolling", **version("3", CRASH="1"))
        cluster.client.update_service(cluster=cluster.name, service="rolling", taskDefinition=broken)
        eventually(lambda: "deployment failed" in cluster.said("rolling"), 90)
        eventually(lambda: cluster.rollout("rolling") == "COMPLETED", 90)
    assert set(visitor.answers) == {"1", "2"}, "requests failed"
    service = cluster.service("rolling")
    assert service["taskDefinition"] == second
    assert "rolling back" in cluster.said("rolling")
    assert len(service["deployments"]) == 1
    assert service["runningCount"] == 2
    cluster.client.delete_service(cluster=cluster.name, service="rolling", force=True)
    eventually(lambda: cluster.service("rolling")["status"] == "INACTIVE")
    assert balancer.states() == {}


def test_a_task_that_is_killed_is_replaced_and_its_service_scaled(
    cluster: Cluster, balancer: Balancer
) -> None:
    cluster.serve("hardy", cluster.define("hardy", **version("1")), 2, **behind(balancer))
    eventually(lambda: cluster.rollout("hardy") == "COMPLETED", 90)
    victim = cluster.tasks("hardy")[0]
    os.kill(pid(victim), signal.SIGKILL)
    eventually(lambda: cluster.task(victim["taskArn"])["lastStatus"] == "STOPPED")
    ended = cluster.task(victim["taskArn"])
    assert ended["stopCode"] == "EssentialContainerExited"
    assert ended["containers"][0]["exitCode"] == 137
    eventually(lambda: sorted(balancer.states().values()) == ["healthy", "healthy"], 60)
    assert {patient.get(balancer.address).text for _ in range(10)} == {"1"}
    cluster.client.update_service(cluster=cluster.name, service="hardy", desiredCount=1)
    eventually(lambda: len(cluster.tasks("hardy")) == 1 and len(balancer.states()) == 1)
    assert {patient.get(balancer.address).text for _ in range(4)} == {"1"}
    assert cluster.service("hardy")["deployments"][0]["rolloutState"] == "COMPLETED"
    with pytest.raises(ClientError, match="scaled above 0"):
        cluster.client.delete_service(cluster=cluster.name, service="hardy")
    cluster.client.delete_service(cluster=cluster.name, service="hardy", force=True)


def test_a_first_deployment_that_never_works_fails_and_stops_trying(
    cluster: Cluster, balancer: Balancer
) -> None:
    definition = cluster.define("hopeless", environment={"CRASH": "1"})
    cluster.serve("hopeless", definition, deploymentConfiguration=BREAKER, **behind(balancer))
    eventually(lambda: cluster.rollout("hopeless") == "FAILED", 60)
    deployment = cluster.service("hopeless")["deployments"][0]
    assert deployment["failedTasks"] == 3
    assert "circuit breaker" in deployment["rolloutStateReason"]
    assert "Essential container in task exited" in cluster.said("hopeless")
    cluster.client.delete_service(cluster=cluster.name, service="hopeless", force=True)
    eventually(lambda: cluster.service("hopeless")["status"] == "INACTIVE")


def test_a_task_that_fails_the_balancers_checks_is_replaced(cluster: Cluster, balancer: Balancer) -> None:
    balancer.client.modify_target_group(
        TargetGroupArn=balancer.group, HealthCheckIntervalSeconds=30, HealthCheckTimeoutSeconds=5
    )
    definition = cluster.define("ailing", environment={"SICK": "1"})
    members = {**behind(balancer), "healthCheckGracePeriodSeconds": 1}
    one = {"enable": True, "rollback": False, "thresholdConfiguration": {"type": "COUNT", "value": 1}}
    breaker = {"deploymentCircuitBreaker": one}
    cluster.serve("ailing", definition, deploymentConfiguration=breaker, **members)
    eventually(lambda: cluster.rollout("ailing") == "FAILED", 120)
    assert "failed ELB health checks" in cluster.said("ailing")
    cluster.client.delete_service(cluster=cluster.name, service="ailing", force=True)


def test_services_find_each_other_by_name(cluster: Cluster, balancer: Balancer) -> None:
    connect = {"enabled": True, "namespace": "names"}
    offered = {"portName": "http", "clientAliases": [{"port": 8000, "dnsName": "backend"}]}
    cluster.serve(
        "backend",
        cluster.define("backend", **version("behind")),
        serviceConnectConfiguration={**connect, "services": [offered]},
    )
    eventually(lambda: cluster.rollout("backend") == "COMPLETED", 90)
    cluster.serve(
        "page",
        cluster.define("page", environment={"API": "http://backend:8000", "OTHER": "http://backend:80001"}),
        serviceConnectConfiguration=connect,
        **behind(balancer),
    )
    eventually(lambda: cluster.rollout("page") == "COMPLETED", 90)
    told = patient.get(f"{balancer.address}/environment").json()
    assert told["OTHER"] == "http://backend:80001"
    assert patient.get(told["API"]).text == "behind"
    for name in ("page", "backend"):
        cluster.client.delete_service(cluster=cluster.name, service=name, force=True)
    eventually(lambda: not answers(told["API"]))


def test_what_cannot_be_is_refused(cluster: Cluster, balancer: Balancer) -> None:
    definition = cluster.define()
    spare = balancer.make_group(f"{balancer.group.rpartition('/')[0].rpartition('/')[2][:20]}-spare")
    place = {"targetGroupArn": spare, "containerName": "app", "containerPort": 8000}
    with pytest.raises(ClientError, match="does not have an associated load balancer"):
        cluster.serve("refused", definition, loadBalancers=[place])
    with pytest.raises(ClientError, match="did not have a container port 9000"):
        cluster.serve("refused", definition, loadBalancers=[{**place, "containerPort": 9000}])
    with pytest.raises(ClientError) as missing:
        cluster.client.update_service(cluster=cluster.name, service="none", desiredCount=1)
    assert missing.value.response["Error"]["Code"] == "ServiceNotFoundException"
    failures = cluster.client.describe_services(cluster=cluster.name, services=["none"])["failures"]
    assert failures[0]["reason"] == "MISSING"


def test_what_a_service_uses_is_measured(cluster: Cluster) -> None:
    cluster.serve("measured", cluster.define("measured"))
    cloudwatch = cluster.platform.client("cloudwatch")
    names = [{"Name": "ClusterName", "Value": cluster.name}, {"Name": "ServiceName", "Value": "measured"}]

    def highest(metric: str) -> float:
        now = datetime.now(UTC)
        statistics = cloudwatch.get_metric_statistics(
            Namespace="AWS/ECS",
            MetricName=metric,
            Dimensions=names,
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(days=60),  # its clock is ahead of this one
            Period=86400,
            Statistics=["Maximum"],
        )
        return max((point["Maximum"] for point in statistics["Datapoints"]), default=0)

    eventually(lambda: 0 < highest("MemoryUtilization") < 100)
    eventually(lambda: highest("CPUUtilization") > 0)
    cluster.client.delete_service(cluster=cluster.name, service="measured", force=True)
