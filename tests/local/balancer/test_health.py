"""Targets get requests while they are healthy, and finish what they have when they are taken out."""

import threading

import pytest
from botocore.exceptions import ClientError

from tests.local import patient
from tests.local.balancer.conftest import Balancer, make_balancer, site
from tests.local.running import Platform, eventually


def test_a_target_that_fails_its_checks_gets_no_requests_until_it_passes_them(platform: Platform) -> None:
    with site("well") as well, site("sick") as sick:
        balancer = make_balancer(platform, "health")
        balancer.client.modify_target_group(TargetGroupArn=balancer.group, HealthCheckIntervalSeconds=10)
        balancer.register(well, sick)
        eventually(lambda: set(balancer.states().values()) == {"healthy"})
        patient.get(f"http://127.0.0.1:{sick}/sick")
        eventually(lambda: balancer.states() == {well: "healthy", sick: "unhealthy"})
        assert {patient.get(balancer.address).text for _ in range(4)} == {"well"}
        described = balancer.client.describe_target_health(
            TargetGroupArn=balancer.group, Targets=[{"Id": "127.0.0.1", "Port": sick}]
        )
        health = described["TargetHealthDescriptions"][0]["TargetHealth"]
        assert health["Reason"] == "Target.ResponseCodeMismatch"
        assert "500" in health["Description"]
        balancer.client.modify_target_group(
            TargetGroupArn=balancer.group, Matcher={"HttpCode": "200,500-599"}, HealthyThresholdCount=2
        )
        eventually(lambda: balancer.states() == {well: "healthy", sick: "healthy"})


def test_where_all_targets_are_unhealthy_they_are_asked_all_the_same(platform: Platform) -> None:
    with site("sick") as sick:
        balancer = make_balancer(platform, "open")
        balancer.client.modify_target_group(TargetGroupArn=balancer.group, HealthCheckIntervalSeconds=10)
        patient.get(f"http://127.0.0.1:{sick}/sick")
        balancer.register(sick)
        eventually(lambda: balancer.states() == {sick: "unhealthy"})
        assert patient.get(balancer.address).text == "sick"


def test_a_target_taken_out_finishes_what_it_has_and_gets_nothing_new(
    balancer: Balancer, sites: tuple[int, int]
) -> None:
    answers: list[str] = []
    address = f"{balancer.address}/held"
    threads = [threading.Thread(target=lambda: answers.append(patient.get(address).text)) for _ in range(2)]
    for thread in threads:
        thread.start()
    targets = [{"Id": "127.0.0.1", "Port": sites[1]}]
    balancer.set_group(deregistration_delay__timeout_seconds="3600")
    eventually(lambda: all(map(_in_flight, sites)))
    balancer.client.deregister_targets(TargetGroupArn=balancer.group, Targets=targets)
    assert balancer.states()[sites[1]] == "draining"
    assert {patient.get(balancer.address).text for _ in range(4)} == {"a"}
    for port in sites:
        patient.get(f"http://127.0.0.1:{port}/release")
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["a", "b"]
    eventually(lambda: sites[1] not in balancer.states())
    balancer.register(sites[1])
    eventually(lambda: set(balancer.states().values()) == {"healthy"})


def _in_flight(port: int) -> bool:
    return patient.get(f"http://127.0.0.1:{port}/busy").text != "0"


def test_a_target_elsewhere_is_refused(balancer: Balancer) -> None:
    with pytest.raises(ClientError, match="address of this machine"):
        balancer.client.register_targets(TargetGroupArn=balancer.group, Targets=[{"Id": "10.0.0.7"}])


def test_a_group_without_a_balancer_is_unused(balancer: Balancer, sites: tuple[int, int]) -> None:
    group = balancer.make_group("spare")
    balancer.register(sites[0], group=group)
    assert balancer.states(group) == {sites[0]: "unused"}
