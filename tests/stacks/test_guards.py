"""Gateway and page are watched: their tasks, what they answer, whether they are well."""

import pytest

from tests.stacks.support import Synthesis


@pytest.mark.parametrize("service", ["gateway", "frontend"])
def test_a_service_is_watched(whole: Synthesis, service: str) -> None:
    prefix = f"byollm-whole-{service}-"
    alarms = {
        alarm["AlarmName"].removeprefix(prefix): alarm
        for alarm in whole.of("services", "AWS::CloudWatch::Alarm").values()
        if alarm.get("AlarmName", "").startswith(prefix)
    }
    limits = {name: alarm["Threshold"] for name, alarm in alarms.items()}
    assert limits == {"cpu": 80, "memory": 85, "errors": 5, "latency": 10, "health": 0}
    for alarm in alarms.values():
        assert "Alarms" in str(alarm["AlarmActions"])
        assert alarm["TreatMissingData"] == "notBreaching"
    (cluster, name) = alarms["cpu"]["Dimensions"]
    assert (cluster["Value"], name["Value"]) == ("byollm-whole", service)
    assert f"{service.capitalize()}Targets" in str(alarms["health"]["Dimensions"])


def test_errors_are_a_share_of_the_requests(whole: Synthesis) -> None:
    (alarm,) = [
        each
        for each in whole.of("services", "AWS::CloudWatch::Alarm").values()
        if each.get("AlarmName") == "byollm-whole-gateway-errors"
    ]
    metrics = {each["Id"]: each for each in alarm["Metrics"]}
    assert metrics["percent"]["Expression"] == "100 * part / whole"
    assert [each["Id"] for each in alarm["Metrics"] if each["ReturnData"]] == ["percent"]
    named = {id: metrics[id]["MetricStat"]["Metric"]["MetricName"] for id in ("part", "whole")}
    assert named == {"part": "HTTPCode_Target_5XX_Count", "whole": "RequestCount"}


def test_what_the_load_balancer_answers_itself_is_watched(whole: Synthesis) -> None:
    (alarm,) = [
        each
        for each in whole.of("services", "AWS::CloudWatch::Alarm").values()
        if each.get("AlarmName") == "byollm-whole-balancer-errors"
    ]
    # With no healthy task nothing reaches a target group: its metrics would say nothing.
    (of,) = alarm["Dimensions"]
    assert (alarm["MetricName"], of["Name"], alarm["Threshold"]) == (
        "HTTPCode_ELB_5XX_Count",
        "LoadBalancer",
        0,
    )
    assert "Balancer" in str(of["Value"])
    assert "Alarms" in str(alarm["AlarmActions"])
