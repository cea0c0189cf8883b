"""A platform that was killed takes its tasks with it, and has its services back when it is started again."""

from pathlib import Path

import httpx
import psutil

from tests.local.balancer.conftest import make_balancer
from tests.local.ecs.conftest import behind, make_cluster, pid
from tests.local.running import eventually, start_platform


def answered(address: str) -> str:
    """What an address answers; nothing where there is nobody."""
    try:
        return httpx.get(address).text
    except httpx.TransportError:
        return ""


def test_a_service_is_there_again_after_the_platform_was_killed(tmp_path: Path) -> None:
    platform = start_platform(tmp_path)
    try:
        balancer, cluster = make_balancer(platform, "kept"), make_cluster(platform, "kept")
        cluster.serve("kept", cluster.define(environment={"VERSION": "1"}), **behind(balancer))
        eventually(lambda: cluster.rollout("kept") == "COMPLETED", 90)
        task = cluster.tasks("kept")[0]
        platform.kill()
        eventually(lambda: not psutil.pid_exists(pid(task)))
        assert answered(balancer.address) == ""

        platform = start_platform(tmp_path, platform.port)
        eventually(lambda: answered(balancer.address) == "1", 90)
        eventually(lambda: list(balancer.states().values()) == ["healthy"], 60)
        old = cluster.task(task["taskArn"])
        assert old["lastStatus"] == "STOPPED"
        assert "was stopped" in old["stoppedReason"]
        assert cluster.service("kept")["deployments"][0]["rolloutState"] == "COMPLETED"
    finally:
        platform.stop()
