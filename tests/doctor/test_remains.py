"""What is found of an environment: by name, by tag, and what AWS removes by itself."""

from moto import mock_aws

from byollm.doctor.remains import TAG, remains
from tests.doctor.support import connect, patient

REGION = "ca-central-1"
TAGS = [{"Key": TAG, "Value": "dev"}]


def found(env: str = "dev") -> set[tuple[str, str]]:
    return {(each.kind, each.name) for each in remains(patient(env=env)) if not each.ending}


@mock_aws
def test_of_an_environment_that_never_was_there_is_nothing() -> None:
    assert found() == set()


@mock_aws
def test_what_services_made_by_themselves_is_found_by_name() -> None:
    logs, s3 = connect("logs", REGION), connect("s3", REGION)
    for name in (
        "/aws/lambda/byollm-dev-publish",
        "/aws/sagemaker/Endpoints/byollm-dev",
        "/aws/lambda/byollm-devil",
    ):
        logs.create_log_group(logGroupName=name)
    place = {"LocationConstraint": REGION}
    s3.create_bucket(Bucket="byollm-dev-storage-data1", CreateBucketConfiguration=place)
    s3.create_bucket(Bucket="my-byollm-dev-copy", CreateBucketConfiguration=place)
    connect("ecr", REGION).create_repository(repositoryName="byollm-dev/inference")
    connect("cloudwatch", REGION).put_metric_alarm(
        AlarmName="byollm-dev-errors", ComparisonOperator="GreaterThanThreshold", EvaluationPeriods=1
    )
    key = connect("kms", REGION).create_key()["KeyMetadata"]["KeyId"]
    connect("kms", REGION).create_alias(AliasName="alias/byollm/dev/data", TargetKeyId=key)
    connect("sagemaker", REGION).create_model(
        ModelName="byollm-dev-0123456789ab", ExecutionRoleArn="arn:aws:iam::123456789012:role/r"
    )
    assert found() == {
        ("log group", "/aws/lambda/byollm-dev-publish"),
        ("log group", "/aws/sagemaker/Endpoints/byollm-dev"),
        ("bucket", "byollm-dev-storage-data1"),
        ("image repository", "byollm-dev/inference"),
        ("alarm", "byollm-dev-errors"),
        ("key alias", "alias/byollm/dev/data"),
        ("model", "byollm-dev-0123456789ab"),
    }
    assert found("prod") == set()


@mock_aws
def test_what_has_another_name_is_found_by_its_tag_and_once_only() -> None:
    topic = connect("sns", REGION).create_topic(Name="anything", Tags=TAGS)["TopicArn"]
    connect("logs", REGION).create_log_group(logGroupName="/aws/lambda/byollm-dev-x", tags={TAG: "dev"})
    connect("ec2", REGION).create_vpc(
        CidrBlock="10.0.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": TAGS}]
    )
    by_tag = dict(found())
    assert by_tag["sns"] == topic
    assert ":vpc/" in by_tag["ec2"]
    assert by_tag["log group"] == "/aws/lambda/byollm-dev-x"
    assert len(found()) == 3


@mock_aws
def test_a_key_that_aws_is_about_to_delete_is_named_as_such() -> None:
    kms = connect("kms", REGION)
    key = kms.create_key(Tags=[{"TagKey": TAG, "TagValue": "dev"}])["KeyMetadata"]["KeyId"]
    assert len(found()) == 1
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    (ending,) = remains(patient())
    assert "AWS deletes it on" in ending.ending


@mock_aws
def test_copies_in_further_regions_are_found_there() -> None:
    key = connect("kms", "us-west-2").create_key()["KeyMetadata"]["KeyId"]
    connect("kms", "us-west-2").create_alias(AliasName="alias/byollm/dev/models-copy", TargetKeyId=key)
    (copy,) = remains(patient(storage={"model_copies": ["us-west-2"]}))
    assert (copy.name, copy.region) == ("alias/byollm/dev/models-copy", "us-west-2")
