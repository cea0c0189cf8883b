"""Alarms reach people, the budget is watched, and calls are recorded where the settings say so."""

import pytest

from byollm.settings import ObservabilitySettings, load_settings
from tests.stacks.support import Synthesis, synthesise


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    watching = ObservabilitySettings(alarm_emails=("on-call@example.org",), monthly_budget_usd=100)
    settings = load_settings("dev").model_copy(update={"observability": watching})
    return synthesise("dev", tmp_path_factory.mktemp("told"), settings)


def test_the_alarms_topic_is_encrypted_and_takes_tls_only(synthesis: Synthesis) -> None:
    (topic,) = synthesis.of("observability", "AWS::SNS::Topic").values()
    assert "Data" in str(topic["KmsMasterKeyId"])
    (policy,) = synthesis.of("observability", "AWS::SNS::TopicPolicy").values()
    conditions = {each["Effect"]: each["Condition"] for each in policy["PolicyDocument"]["Statement"]}
    assert conditions["Deny"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert conditions["Allow"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_all_who_send_to_the_topic_may_use_its_key(synthesis: Synthesis) -> None:
    (policy,) = synthesis.of("observability", "AWS::SNS::TopicPolicy").values()
    senders = {
        sender
        for each in policy["PolicyDocument"]["Statement"]
        if each["Effect"] == "Allow"
        for sender in each["Principal"]["Service"]
    }
    keys = synthesis.of("keys", "AWS::KMS::Key")
    (data,) = [key for name, key in keys.items() if name.startswith("Data")]
    allowed = str(data["KeyPolicy"])
    assert senders == {"budgets.amazonaws.com", "cloudwatch.amazonaws.com"}
    assert all(sender in allowed for sender in senders)


def test_people_are_told_of_alarms_and_of_the_budget(told: Synthesis) -> None:
    (subscription,) = told.of("observability", "AWS::SNS::Subscription").values()
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "on-call@example.org")
    (budget,) = told.of("observability", "AWS::Budgets::Budget").values()
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 100, "Unit": "USD"}
    assert budget["Budget"]["CostFilters"] == {"TagKeyValue": ["user:byollm:environment$dev"]}
    thresholds = {
        (each["Notification"]["NotificationType"], each["Notification"]["Threshold"])
        for each in budget["NotificationsWithSubscribers"]
    }
    assert thresholds == {("ACTUAL", 80), ("FORECASTED", 100)}


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
