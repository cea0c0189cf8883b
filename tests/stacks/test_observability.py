"""Alarms reach people, the budget is watched, and calls are recorded where the settings say so."""

from typing import Any

import pytest

from byollm.settings import ObservabilitySettings, load_settings
from tests.stacks.support import Synthesis, synthesise


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    watching = ObservabilitySettings(
        alarm_emails=("on-call@example.org",),
        release_emails=("approver@example.org",),
        pagerduty_secret="byollm/pagerduty",
        monthly_budget_usd=100,
    )
    settings = load_settings("dev").model_copy(update={"observability": watching})
    return synthesise("dev", tmp_path_factory.mktemp("told"), settings)


def policy_of(synthesis: Synthesis, topic: str) -> list[dict[str, Any]]:
    """The statements about the one topic of the observability stack whose name begins so."""
    policies = synthesis.of("observability", "AWS::SNS::TopicPolicy").values()
    (policy,) = [each for each in policies if each["Topics"][0]["Ref"].startswith(topic)]
    statements: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return statements


@pytest.mark.parametrize("topic", ["Alarms", "Overspending"])
def test_topics_are_encrypted_and_take_tls_only(synthesis: Synthesis, topic: str) -> None:
    for properties in synthesis.of("observability", "AWS::SNS::Topic").values():
        assert "Data" in str(properties["KmsMasterKeyId"])
    conditions = {each["Effect"]: each["Condition"] for each in policy_of(synthesis, topic)}
    assert conditions["Deny"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert conditions["Allow"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_all_who_send_to_the_topic_may_use_its_key(synthesis: Synthesis) -> None:
    senders = {
        sender
        for each in policy_of(synthesis, "Alarms")
        if each["Effect"] == "Allow"
        for sender in each["Principal"]["Service"]
    }
    keys = synthesis.of("keys", "AWS::KMS::Key")
    (data,) = [key for name, key in keys.items() if name.startswith("Data")]
    allowed = str(data["KeyPolicy"])
    assert senders == {"budgets.amazonaws.com", "cloudwatch.amazonaws.com"}
    assert all(sender in allowed for sender in senders)


def test_people_are_told_of_alarms_and_of_the_budget(told: Synthesis) -> None:
    subscriptions = told.of("observability", "AWS::SNS::Subscription").values()
    assert ("email", "on-call@example.org") in [
        (each["Protocol"], each["Endpoint"]) for each in subscriptions
    ]
    (budget,) = told.of("observability", "AWS::Budgets::Budget").values()
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 100, "Unit": "USD"}
    assert budget["Budget"]["CostFilters"] == {"TagKeyValue": ["user:byollm:environment$dev"]}
    told_of = [
        (
            each["Notification"]["NotificationType"],
            each["Notification"]["Threshold"],
            each["Subscribers"][0]["Address"]["Ref"][:-8],
        )
        for each in budget["NotificationsWithSubscribers"]
    ]
    assert told_of == [
        ("ACTUAL", 80, "Alarms"),
        ("FORECASTED", 100, "Alarms"),
        ("ACTUAL", 100, "Overspending"),  # which brings the endpoint down
    ]


def test_pagerduty_hears_of_alarms_and_its_address_stays_a_secret(told: Synthesis) -> None:
    subscriptions = told.of("observability", "AWS::SNS::Subscription")
    (pagerduty,) = [each for name, each in subscriptions.items() if name.startswith("PagerDuty")]
    assert pagerduty["Protocol"] == "https"
    assert pagerduty["Endpoint"] == "{{resolve:secretsmanager:byollm/pagerduty:SecretString:::}}"
    assert pagerduty["TopicArn"]["Ref"].startswith("Alarms")


def test_approvers_hear_of_releases(told: Synthesis) -> None:
    subscriptions = told.of("lifecycle", "AWS::SNS::Subscription").values()
    (email,) = [each for each in subscriptions if each["Protocol"] == "email"]
    assert email["Endpoint"] == "approver@example.org"
    assert email["TopicArn"]["Ref"].startswith("Releases")


def test_the_budget_counts_what_the_stacks_are_tagged_with(told: Synthesis) -> None:
    (bucket, *_) = told.of("storage", "AWS::S3::Bucket").values()
    assert {"Key": "byollm:environment", "Value": "dev"} in bucket["Tags"]


def test_dev_has_no_budget_and_no_trail(dev: Synthesis) -> None:
    assert dev.of("observability", "AWS::Budgets::Budget") == {}
    assert dev.of("observability", "AWS::CloudTrail::Trail") == {}


def test_prod_records_every_call_encrypted_and_sealed(prod: Synthesis) -> None:
    (trail,) = prod.of("observability", "AWS::CloudTrail::Trail").values()
    assert trail["IsLogging"]
    assert trail["IsMultiRegionTrail"]
    assert trail["EnableLogFileValidation"]
    assert "Data" in str(trail["KMSKeyId"])
    (bucket,) = prod.of("observability", "AWS::S3::Bucket").values()
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == load_settings("prod").aws.log_days
