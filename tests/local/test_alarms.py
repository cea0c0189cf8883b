"""Alarms are judged by their metrics, act, and wake functions."""

import json
from typing import Any

import pytest

from byollm.local.alarms import judge
from tests.local.running import Platform, eventually

ALARM = {
    "EvaluationPeriods": 3,
    "ComparisonOperator": "GreaterThanThreshold",
    "Threshold": 1.0,
    "StateValue": "OK",
}


@pytest.mark.parametrize(
    ("changed", "values", "state"),
    [
        ({}, [2, 2, 2], "ALARM"),
        ({}, [2, 1, 2], "OK"),
        ({"DatapointsToAlarm": 2}, [2, 1, 2], "ALARM"),
        ({}, [None, None, None], "INSUFFICIENT_DATA"),
        ({"TreatMissingData": "ignore", "StateValue": "ALARM"}, [None, None, None], "ALARM"),
        ({"TreatMissingData": "notBreaching"}, [None, None, None], "OK"),
        ({"TreatMissingData": "breaching"}, [None, 2, None], "ALARM"),
        ({}, [None, 2, 2], "OK"),
        ({}, [0, 2, 2, None, 2], "ALARM"),
        ({}, [2, 0, None, 2, None], "OK"),
        ({}, [2, 2, None, None, None], "OK"),
        ({"TreatMissingData": "breaching"}, [2, None, None, None, 0], "OK"),
        ({"TreatMissingData": "notBreaching"}, [2, 2, None, 2, None], "ALARM"),
        ({"ComparisonOperator": "LessThanOrEqualToThreshold"}, [1, 0, 1], "ALARM"),
    ],
)
def test_the_state_follows_from_what_was_measured(
    changed: dict[str, Any], values: list[float | None], state: str
) -> None:
    assert judge(ALARM | changed, values) == state


def state_of(platform: Platform, name: str) -> str:
    [alarm] = platform.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    state: str = alarm["StateValue"]
    return state


def rang(platform: Platform, name: str) -> bool:
    """Whether it has ever been in alarm: it leaves that state again with the next period."""
    history = platform.client("cloudwatch").describe_alarm_history(AlarmName=name)["AlarmHistoryItems"]
    return any("to ALARM" in item["HistorySummary"] for item in history)


def test_an_alarm_goes_by_its_own_dimensions_and_tells_its_topic(platform: Platform) -> None:
    watch, sqs, sns = (platform.client(name) for name in ("cloudwatch", "sqs", "sns"))
    url = sqs.create_queue(QueueName="alarms")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
    shared: dict[str, Any] = {
        "Namespace": "test",
        "MetricName": "errors",
        "Statistic": "Sum",
        "Period": 10,
        "EvaluationPeriods": 1,
        "Threshold": 5,
        "ComparisonOperator": "GreaterThanThreshold",
        "AlarmActions": [topic],
    }
    for name in ("loud", "quiet"):
        watch.put_metric_alarm(AlarmName=name, Dimensions=[{"Name": "who", "Value": name}], **shared)

    def put_until_it_rings() -> bool:
        for name, value in (("loud", 9), ("quiet", 1)):
            who = [{"Name": "who", "Value": name}]
            data = {"MetricName": "errors", "Dimensions": who, "Value": value}
            watch.put_metric_data(Namespace="test", MetricData=[data])
        return rang(platform, "loud")

    eventually(put_until_it_rings)
    assert not rang(platform, "quiet")
    told = ""

    def heard() -> bool:
        nonlocal told
        for said in sqs.receive_message(QueueUrl=url).get("Messages", []):
            told = said["Body"]
        return told != ""

    eventually(heard)
    message = json.loads(json.loads(told)["Message"])
    assert (message["AlarmName"], message["NewStateValue"]) == ("loud", "ALARM")
    eventually(lambda: state_of(platform, "loud") == "INSUFFICIENT_DATA")  # the measurements are over


def test_an_alarm_may_compute_and_keeps_its_formula(platform: Platform) -> None:
    watch = platform.client("cloudwatch")

    def metric(name: str) -> dict[str, Any]:
        stat = {"Metric": {"Namespace": "test", "MetricName": name}, "Period": 10, "Stat": "Sum"}
        return {"Id": name, "MetricStat": stat, "ReturnData": False}

    formula = {"Id": "rate", "Expression": "100 * failed / MAX([asked, 1])", "ReturnData": True}
    watch.put_metric_alarm(
        AlarmName="rate",
        Metrics=[metric("failed"), metric("asked"), formula],
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
    )
    [alarm] = watch.describe_alarms(AlarmNames=["rate"])["MetricAlarms"]
    assert [query.get("Expression") for query in alarm["Metrics"]] == [None, None, formula["Expression"]]

    def put_until_it_rings() -> bool:
        data = [{"MetricName": "failed", "Value": 1}, {"MetricName": "asked", "Value": 10}]
        watch.put_metric_data(Namespace="test", MetricData=data)
        return rang(platform, "rate")

    eventually(put_until_it_rings)


def test_alarms_are_found_by_what_they_act_on(platform: Platform) -> None:
    watch = platform.client("cloudwatch")
    rest = {"EvaluationPeriods": 1, "ComparisonOperator": "LessThanThreshold", "Threshold": 0, "Period": 60}
    for name in ("acting-one", "acting-two"):
        action = f"arn:aws:sns:ca-central-1:123456789012:{name}"
        watch.put_metric_alarm(
            AlarmName=name, Namespace="n", MetricName="m", Statistic="Sum", AlarmActions=[action], **rest
        )

    def found(prefix: str) -> list[str]:
        alarms = watch.describe_alarms(ActionPrefix=f"arn:aws:sns:ca-central-1:123456789012:{prefix}")
        return [alarm["AlarmName"] for alarm in alarms["MetricAlarms"]]

    assert found("acting-t") == ["acting-two"]
    assert found("nothing") == []
