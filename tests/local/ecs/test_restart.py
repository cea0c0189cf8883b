"""A platform that was killed takes its tasks with it, and has its services back when it is started again."""

import httpx
import psutil

from tests.local import patient
from tests.local.balancer.conftest import make_balancer
from tests.local.ecs.conftest import behind, make_cluster, pid
from tests.local.running import Mortal, eventually


def answered(address: str) -> str:
    """What an address answers; nothing where there is nobody."""
    try:
        return patient.get(address).text
    except httpx.TransportError:
        return ""


def test_a_service_is_there_again_after_the_platform_was_killed(mortal: Mortal) -> None:
    balancer, cluster = make_balancer(mortal.platform, "kept"), make_cluster(mortal.platform, "kept")
    cluster.serve("kept", cluster.define(environment={"VERSION": "1"}), **behind(balancer))
    eventually(lambda: cluster.rollout("kept") == "COMPLETED", 90)
    task = cluster.tasks("kept")[0]
    mortal.kill()
    eventually(lambda: not psutil.pid_exists(pid(task)))
    assert answered(balancer.address) == ""

    mortal.start()
    eventually(lambda: answered(balancer.address) == "1", 90)
    eventually(lambda: list(balancer.states().values()) == ["healthy"], 60)
    old = cluster.task(task["taskArn"])
    assert old["lastStatus"] == "STOPPED"
    assert "was stopped" in old["stoppedReason"]
    assert cluster.service("kept")["deployments"][0]["rolloutState"] == "COMPLETED"
    cluster.client.delete_service(cluster="kept", service="kept", force=True)
