"""The model registry with an unmodified boto3: versions, approval, and who is told of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from byollm.local.containers import Containers
from byollm.local.sagemaker import SageMaker
from byollm.local.world import World
from tests.local.front import Front
from tests.local.running import eventually

SPECIFICATION = {
    "Containers": [
        {"Image": "123456789012.dkr.ecr.ca-central-1.amazonaws.com/byollm-dev/inference@sha256:0"}
    ],
    "SupportedContentTypes": ["application/json"],
    "SupportedResponseMIMETypes": ["application/json"],
}


@pytest.fixture(scope="module")
def world(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    def services(world: World) -> dict[str, Any]:
        return {"sagemaker": SageMaker(world, Containers(world))}

    with front(tmp_path_factory.mktemp("registry"), services) as world:
        yield world


@pytest.fixture
def client(world: World) -> Any:
    return world.client("sagemaker")


@pytest.fixture
def group(client: Any, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-")[:60].rstrip("-")
    client.create_model_package_group(ModelPackageGroupName=name, Tags=[{"Key": "of", "Value": "test"}])
    return str(name)


def register(client: Any, group: str, **more: Any) -> str:
    made = client.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification=SPECIFICATION, **more
    )
    return str(made["ModelPackageArn"])


def test_versions_count_up_and_wait_for_approval(client: Any, group: str) -> None:
    first = register(client, group, CustomerMetadataProperties={"content": "a" * 12})
    second = register(client, group, ModelApprovalStatus="Approved")
    assert first.endswith(f":model-package/{group}/1")
    assert second.endswith(f":model-package/{group}/2")
    described = client.describe_model_package(ModelPackageName=first)
    assert described["ModelPackageVersion"] == 1
    assert described["ModelApprovalStatus"] == "PendingManualApproval"
    assert described["ModelPackageStatus"] == "Completed"
    assert described["InferenceSpecification"]["Containers"] == SPECIFICATION["Containers"]
    assert described["CustomerMetadataProperties"] == {"content": "a" * 12}


def test_the_newest_approved_version_is_found(client: Any, group: str) -> None:
    versions = [register(client, group) for _ in range(12)]
    for arn in versions[:3]:
        client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    newest = client.list_model_packages(
        ModelPackageGroupName=group,
        ModelApprovalStatus="Approved",
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=1,
    )
    assert [one["ModelPackageArn"] for one in newest["ModelPackageSummaryList"]] == [versions[2]]
    pages = client.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group, SortOrder="Ascending", PaginationConfig={"PageSize": 5}
    )
    found = [one["ModelPackageArn"] for page in pages for one in page["ModelPackageSummaryList"]]
    assert found == versions
    every = client.list_model_packages(ModelPackageType="Versioned", MaxResults=100)
    assert set(versions) <= {one["ModelPackageArn"] for one in every["ModelPackageSummaryList"]}
    assert client.list_model_packages()["ModelPackageSummaryList"] == []


def test_a_version_is_changed_in_what_may_change(client: Any, group: str) -> None:
    arn = register(client, group, CustomerMetadataProperties={"a": "1", "b": "2"})
    client.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Rejected",
        ApprovalDescription="the smoke test failed",
        CustomerMetadataProperties={"a": "3"},
        CustomerMetadataPropertiesToRemove=["b"],
    )
    described = client.describe_model_package(ModelPackageName=arn)
    assert described["ModelApprovalStatus"] == "Rejected"
    assert described["ApprovalDescription"] == "the smoke test failed"
    assert described["CustomerMetadataProperties"] == {"a": "3"}


def test_the_same_request_twice_makes_one_version(client: Any, group: str) -> None:
    assert register(client, group, ClientToken="t" * 36) == register(client, group, ClientToken="t" * 36)
    listed = client.list_model_packages(ModelPackageGroupName=group)["ModelPackageSummaryList"]
    assert len(listed) == 1


def test_a_group_with_versions_stays(client: Any, group: str) -> None:
    arn = register(client, group)
    with pytest.raises(ClientError, match="contains Model Packages") as caught:
        client.delete_model_package_group(ModelPackageGroupName=group)
    assert caught.value.response["Error"]["Code"] == "ConflictException"
    client.delete_model_package(ModelPackageName=arn)
    with pytest.raises(ClientError, match="does not exist"):
        client.describe_model_package(ModelPackageName=arn)
    assert register(client, group).endswith("/2")  # a number is given once
    client.delete_model_package(ModelPackageName=f"{group}/2")
    client.delete_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(ClientError, match="does not exist"):
        client.describe_model_package_group(ModelPackageGroupName=group)


def test_a_group_is_described_listed_and_tagged(client: Any, group: str) -> None:
    described = client.describe_model_package_group(ModelPackageGroupName=group)
    assert described["ModelPackageGroupStatus"] == "Completed"
    by_arn = client.describe_model_package_group(ModelPackageGroupName=described["ModelPackageGroupArn"])
    assert by_arn["ModelPackageGroupName"] == group
    listed = client.list_model_package_groups(NameContains=group)["ModelPackageGroupSummaryList"]
    assert [one["ModelPackageGroupName"] for one in listed] == [group]
    tags = client.list_tags(ResourceArn=described["ModelPackageGroupArn"])["Tags"]
    assert tags == [{"Key": "of", "Value": "test"}]
    with pytest.raises(ClientError, match="already existing"):
        client.create_model_package_group(ModelPackageGroupName=group)


def test_a_change_of_approval_is_told_to_eventbridge(world: World, client: Any, group: str) -> None:
    sqs, events = world.client("sqs"), world.client("events")
    queue = sqs.create_queue(QueueName=group)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Model Package State Change"],
        "detail": {"ModelPackageGroupName": [group]},  # what other tests did may be told late
    }
    events.put_rule(Name=group, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=group, Targets=[{"Id": "queue", "Arn": arn}])
    version = register(client, group)
    client.update_model_package(ModelPackageArn=version, ApprovalDescription="not yet")
    client.update_model_package(ModelPackageArn=version, ModelApprovalStatus="Approved")
    told: list[dict[str, Any]] = []

    def heard() -> bool:
        for message in sqs.receive_message(QueueUrl=queue).get("Messages", []):
            told.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return len(told) >= 2

    eventually(heard)
    assert [one["detail"]["ModelApprovalStatus"] for one in told] == ["PendingManualApproval", "Approved"]
    assert told[1]["resources"] == [version]
    assert told[1]["detail"]["ModelPackageGroupName"] == group


def test_what_cannot_be_is_refused(client: Any, group: str) -> None:
    def refused(text: str, **given: Any) -> None:
        with pytest.raises(ClientError, match=text):
            client.create_model_package(**given)

    refused("does not exist", ModelPackageGroupName="none", InferenceSpecification=SPECIFICATION)
    refused("without a group", ModelPackageName="alone", InferenceSpecification=SPECIFICATION)
    refused("needs an InferenceSpecification", ModelPackageGroupName=group)
    arn = register(client, group)
    with pytest.raises(ClientError, match="at 'modelApprovalStatus' failed to satisfy constraint"):
        client.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Good")


def test_versions_outlive_a_restart(front: Front, tmp_path: Path) -> None:
    def services(world: World) -> dict[str, Any]:
        return {"sagemaker": SageMaker(world, Containers(world))}

    with front(tmp_path, services) as world:
        world.client("sagemaker").create_model_package_group(ModelPackageGroupName="kept")
        arn = register(world.client("sagemaker"), "kept")
    with front(tmp_path, services) as world:
        assert (
            world.client("sagemaker").describe_model_package(ModelPackageName=arn)["ModelPackageVersion"] == 1
        )
