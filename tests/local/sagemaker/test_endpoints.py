"""Endpoints come up, share their load, are scaled, and go away with all their processes."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from tests.local.sagemaker.hosting import IMAGE, ROLE, TYPE, Hosting, error_of, eventually


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_an_endpoint_is_created_described_and_deleted_with_its_processes(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(hosting.variant(count=2))
    described = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointArn"] == f"arn:aws:sagemaker:ca-central-1:123456789012:endpoint/{endpoint}"
    (variant,) = described["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (2, 2)
    assert variant["DeployedImages"][0]["SpecifiedImage"] == IMAGE
    pids = hosting.pids(endpoint, calls=20)
    assert len(pids) == 2
    hosting.delete(endpoint)
    assert not any(map(running, pids))


def test_the_instance_with_the_fewest_requests_under_way_gets_the_next(
    hosting: Hosting, tmp_path: Path
) -> None:
    endpoint, enough = hosting.endpoint(hosting.variant(count=2)), tmp_path / "enough"
    asked = {"text": "slow", "until": str(enough)}
    slow = threading.Thread(target=hosting.invoke, args=[endpoint], kwargs=asked)
    slow.start()
    eventually(lambda: "asked slow" in hosting.log(endpoint))
    assert len(hosting.pids(endpoint, calls=8)) == 1
    enough.touch()
    slow.join()
    hosting.delete(endpoint)


def test_requests_are_split_by_weight_and_a_variant_can_be_named(hosting: Hosting) -> None:
    variants = hosting.variant("a", weight=3), hosting.variant("b", weight=0)
    endpoint = hosting.endpoint(*variants)
    assert {hosting.invoke(endpoint)["name"] for _ in range(10)} == {"a"}
    assert hosting.invoke(endpoint, TargetVariant="b")["name"] == "b"
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 1},
            {"VariantName": "b", "DesiredWeight": 1, "DesiredInstanceCount": 2},
        ],
    )
    described = hosting.settled(endpoint)["ProductionVariants"]
    assert [(one["CurrentWeight"], one["CurrentInstanceCount"]) for one in described] == [(1, 1), (1, 2)]
    assert {hosting.invoke(endpoint)["name"] for _ in range(40)} == {"a", "b"}
    assert len(hosting.pids(endpoint, calls=20, TargetVariant="b")) == 2
    hosting.delete(endpoint)


def test_scaling_in_ends_processes(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(hosting.variant(count=2))
    pids = hosting.pids(endpoint, calls=20)
    desired = [{"VariantName": "main", "DesiredInstanceCount": 1}]
    hosting.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint, DesiredWeightsAndCapacities=desired
    )
    hosting.settled(endpoint)
    assert sum(map(running, pids)) == 1
    hosting.delete(endpoint)


def test_a_shadow_gets_copies_and_nobody_sees_its_answers(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(hosting.variant("seen"), ShadowProductionVariants=[hosting.variant("unseen")])
    described = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)
    assert described["ShadowProductionVariants"][0]["VariantName"] == "unseen"
    assert {hosting.invoke(endpoint, text="once")["name"] for _ in range(3)} == {"seen"}
    eventually(lambda: hosting.log(endpoint).count("asked once") == 6)
    assert error_of(lambda: hosting.invoke(endpoint, TargetVariant="unseen"))["Code"] == "ValidationError"
    hosting.delete(endpoint)


def test_a_container_that_no_longer_answers_its_health_check_is_replaced(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(hosting.variant())
    before = hosting.invoke(endpoint, sick=True)["pid"]
    eventually(lambda: not running(before))
    eventually(lambda: described_count(hosting, endpoint) == 1)
    assert hosting.invoke(endpoint)["pid"] != before
    hosting.delete(endpoint)


def described_count(hosting: Hosting, endpoint: str) -> int:
    (variant,) = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
    return int(variant["CurrentInstanceCount"])


@pytest.mark.parametrize("fault", ["SICK", "CRASH"])
def test_a_container_that_never_gets_well_fails_the_endpoint_with_awss_reason(
    hosting: Hosting, fault: str
) -> None:
    variant = hosting.variant(**{fault: "1"})
    variant["ContainerStartupHealthCheckTimeoutInSeconds"] = 60
    endpoint = hosting.endpoint(variant)
    described = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)
    assert described["EndpointStatus"] == "Failed"
    assert described["FailureReason"] == (
        "The primary container for production variant main did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
    assert error_of(lambda: hosting.invoke(endpoint))["Code"] == "ValidationError"
    hosting.delete(endpoint)


def test_a_model_comes_from_s3_once_and_cannot_be_written(hosting: Hosting) -> None:
    s3 = hosting.world.client("s3")
    s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "ca-central-1"})
    for name in ("config.json", "deep/model.safetensors"):
        s3.put_object(Bucket="models", Key=f"tiny/{name}", Body=b"{}")
    variant = hosting.variant()
    variant["ModelName"] = hosting.model("s3://models/tiny/")
    endpoint = hosting.endpoint(variant)
    assert hosting.invoke(endpoint)["model"] == ["config.json", "deep"]
    (kept,) = (hosting.world.directory / "models").glob("*/model/deep/model.safetensors")
    assert kept.stat().st_mode & 0o222 == 0
    hosting.delete(endpoint)


def test_a_model_without_files_fails_the_endpoint_and_says_where_it_looked(hosting: Hosting) -> None:
    variant = hosting.variant()
    variant["ModelName"] = hosting.model("s3://nowhere/tiny/")
    endpoint = hosting.endpoint(variant)
    described = hosting.sagemaker.describe_endpoint(EndpointName=endpoint)
    assert described["EndpointStatus"] == "Failed"
    assert 'from URL: "s3://nowhere/tiny/"' in described["FailureReason"]
    hosting.delete(endpoint)


def test_what_is_under_way_is_not_disturbed(hosting: Hosting, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    variant = hosting.variant(READY_WITH=str(ready))  # it does not get ready amid the test
    endpoint, config = hosting.name("endpoint"), hosting.config(variant)
    hosting.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    arn = f"arn:aws:sagemaker:ca-central-1:123456789012:endpoint/{endpoint}"
    for change in (
        lambda: hosting.sagemaker.delete_endpoint(EndpointName=endpoint),
        lambda: hosting.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config),
    ):
        error = error_of(change)
        assert error["Code"] == "ValidationException"
        assert error["Message"] == f'Cannot update in-progress endpoint "{arn}".'
    assert "not found" in error_of(lambda: hosting.invoke(endpoint))["Message"]
    ready.touch()
    hosting.settled(endpoint)
    hosting.delete(endpoint)


def test_what_aws_refuses_is_refused_in_its_words(hosting: Hosting) -> None:
    sagemaker = hosting.sagemaker
    refused = {
        "Could not find endpoint configuration": lambda: sagemaker.create_endpoint(
            EndpointName="x", EndpointConfigName="missing"
        ),
        "Could not find endpoint ": lambda: sagemaker.describe_endpoint(EndpointName="missing"),
        "Could not find model ": lambda: hosting.config(hosting.variant() | {"ModelName": "missing"}),
        "Requested image other@sha256:1 not found": lambda: sagemaker.create_model(
            ModelName="x", PrimaryContainer={"Image": "other@sha256:1"}, ExecutionRoleArn=ROLE
        ),
        "Member must satisfy enum value set": lambda: hosting.config(
            hosting.variant() | {"InstanceType": "ml.none.xlarge"}
        ),
        "Member must satisfy regular expression pattern": lambda: sagemaker.create_model(
            ModelName="a_b", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE
        ),
        "AsyncInferenceConfig is not emulated": lambda: hosting.config(
            hosting.variant(), AsyncInferenceConfig={"OutputConfig": {}}
        ),
        "MultiModel mode is not emulated": lambda: sagemaker.create_model(
            ModelName="x", PrimaryContainer={"Image": IMAGE, "Mode": "MultiModel"}, ExecutionRoleArn=ROLE
        ),
        "ServerlessConfig is not emulated": lambda: hosting.config(
            {
                "VariantName": "main",
                "ModelName": hosting.model(),
                "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
            }
        ),
    }
    for words, call in refused.items():
        error = error_of(call)
        assert error["Code"] == "ValidationException"
        assert words in error["Message"]
    model = hosting.model()
    taken = error_of(
        lambda: sagemaker.create_model(
            ModelName=model, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE
        )
    )
    assert taken["Message"] == (
        f'Cannot create already existing model "arn:aws:sagemaker:ca-central-1:123456789012:model/{model}".'
    )


def test_more_instances_than_the_quota_are_refused(hosting: Hosting) -> None:
    config = hosting.config(hosting.variant(count=21))
    error = error_of(lambda: hosting.sagemaker.create_endpoint(EndpointName="x", EndpointConfigName=config))
    assert error["Code"] == "ResourceLimitExceeded"
    assert f"service limit '{TYPE} for endpoint usage' is 20 Instances" in error["Message"]


def test_lists_have_pages_filters_and_an_order(hosting: Hosting) -> None:
    word = hosting.name("listed")
    for letter in "cab":
        hosting.sagemaker.create_model(
            ModelName=f"{word}-{letter}", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE
        )
    pages = hosting.sagemaker.get_paginator("list_models").paginate(
        NameContains=word, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    )
    names = [[model["ModelName"] for model in page["Models"]] for page in pages]
    assert names == [[f"{word}-a", f"{word}-b"], [f"{word}-c"]]
    newest = hosting.sagemaker.list_models(NameContains=word, MaxResults=1)["Models"]
    assert newest[0]["ModelName"] == f"{word}-b"
    made = newest[0]["CreationTime"] + timedelta(seconds=1)  # boto3 sends whole seconds
    later = hosting.sagemaker.list_models(NameContains=word, CreationTimeAfter=made)["Models"]
    assert later == []
    earlier = hosting.sagemaker.list_models(NameContains=word, CreationTimeBefore=made)["Models"]
    assert len(earlier) == 3
    error = error_of(lambda: hosting.sagemaker.list_models(NextToken="x"))
    assert error["Code"] == "ValidationException"


def test_tags_are_kept_with_what_has_them(hosting: Hosting) -> None:
    name = hosting.name("tagged")
    tags = [{"Key": "byollm:environment", "Value": "dev"}]
    arn = hosting.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "main",
                "ModelName": hosting.model(),
                "InstanceType": TYPE,
                "InitialInstanceCount": 1,
            }
        ],
        Tags=tags,
    )["EndpointConfigArn"]
    assert hosting.sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
    hosting.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    hosting.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["byollm:environment"])
    assert hosting.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    hosting.sagemaker.delete_endpoint_config(EndpointConfigName=name)
    assert error_of(lambda: hosting.sagemaker.list_tags(ResourceArn=arn))["Code"] == "ValidationException"
