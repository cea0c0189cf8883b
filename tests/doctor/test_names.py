"""Stacks that are busy or stuck, and names that are taken."""

from datetime import UTC, datetime

import pytest
from moto import mock_aws

from byollm.doctor import Level
from byollm.doctor.names import leftovers, names, stacks
from tests.doctor.support import ACCOUNT, ScriptedAws, connect, found, only, patient

REGION = "ca-central-1"
NOTHING = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'


def stack(name: str, status: str) -> ScriptedAws:
    there = {"StackName": name, "StackStatus": status, "CreationTime": datetime.now(UTC)}
    return ScriptedAws({"DescribeStacks": {"Stacks": [there]}})


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("CREATE_COMPLETE", Level.PASS),
        ("UPDATE_IN_PROGRESS", Level.FAIL),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Level.FAIL),
        ("UPDATE_ROLLBACK_FAILED", Level.FAIL),
        ("DELETE_FAILED", Level.FAIL),
    ],
)
def test_stacks_that_are_busy_or_stuck_fail(status: str, level: Level) -> None:
    only(found(stacks, patient(stack("byollm-dev-network", status))), level)


def test_the_stacks_of_another_environment_do_not_matter() -> None:
    only(found(stacks, patient(stack("byollm-prod-network", "UPDATE_IN_PROGRESS"))), Level.PASS)


@mock_aws
def test_names_that_are_free_pass() -> None:
    only(found(names, patient(storage={"model_copies": ["us-west-2"]})), Level.PASS)


@mock_aws
def test_what_an_earlier_environment_left_fails_by_name() -> None:
    connect("ecr", REGION).create_repository(repositoryName="byollm-dev/inference")
    connect("ecr", REGION).create_repository(repositoryName="byollm-prod/inference")
    key = connect("kms", REGION).create_key()["KeyMetadata"]["KeyId"]
    connect("kms", REGION).create_alias(AliasName="alias/byollm/dev/data", TargetKeyId=key)
    connect("sagemaker", REGION).create_model_package_group(ModelPackageGroupName="byollm-dev")
    bucket = f"byollm-dev-models-{ACCOUNT}-us-west-2"
    connect("s3", "us-west-2").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    finding = only(
        found(names, patient(storage={"model_copies": ["us-west-2"]})),
        Level.FAIL,
        "byollm-dev/inference",
        "alias/byollm/dev/data",
        "model package group byollm-dev",
        bucket,
    )
    assert "byollm-prod" not in finding.seen


@mock_aws
def test_the_environments_own_stacks_may_have_its_names() -> None:
    connect("ecr", REGION).create_repository(repositoryName="byollm-dev/inference")
    connect("cloudformation", REGION).create_stack(StackName="byollm-dev-registry", TemplateBody=NOTHING)
    only(found(names, patient()), Level.PASS)


def test_a_bucket_of_somebody_else_fails() -> None:
    aws = ScriptedAws(
        {
            "DescribeStacks": {"Stacks": []},
            "DescribeRepositories": {"repositories": []},
            "ListAliases": {"Aliases": []},
            "DescribeModelPackageGroup": ("ValidationException", "ModelPackageGroup does not exist"),
            "GetCallerIdentity": {"Account": ACCOUNT},
            "HeadBucket": ("403", "Forbidden"),
        }
    )
    only(
        found(names, patient(aws, storage={"model_copies": ["us-west-2"]})), Level.FAIL, "of another account"
    )


@mock_aws
def test_what_still_carries_the_tag_is_told() -> None:
    tags = [{"Key": "byollm:environment", "Value": "dev"}]
    topic = connect("sns", REGION).create_topic(Name="byollm-dev-alarms", Tags=tags)["TopicArn"]
    only(found(leftovers, patient()), Level.WARN, topic)
    only(found(leftovers, patient(env="prod")), Level.PASS)
