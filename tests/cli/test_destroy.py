"""An environment is taken away: what is asked, in which order, what is kept, and what is told."""

import json
from typing import Any

import pytest
from moto import mock_aws
from moto.sagemaker.models import sagemaker_backends
from typer.testing import CliRunner

from byollm.cli import cdk
from byollm.cli.destroy import DATA
from byollm.cli.main import app
from byollm.cli.removal import remove
from byollm.doctor.remains import TAG, Remains
from tests.doctor.support import ACCOUNT, GAPS, connect, patient

REGION = "ca-central-1"
PLACE: Any = {"LocationConstraint": REGION}
BUCKET = "byollm-dev-storage-models1"
TEMPLATE = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An account with credentials, in which the CDK's command line deletes stacks, and buckets with them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    calls: list[tuple[Any, ...]] = []

    def run_cdk(*arguments: str, env: str, variables: dict[str, str], **_: object) -> None:
        calls.append((arguments, variables))
        connect("cloudformation", REGION).delete_stack(StackName=f"byollm-{env}-storage")
        s3 = connect("s3", REGION)
        for bucket in s3.list_buckets()["Buckets"]:
            if env == "dev":
                s3.delete_bucket(Bucket=bucket["Name"])  # refused by S3 where it is not empty

    monkeypatch.setattr(cdk, "run_cdk", run_cdk)
    for operation, answer in versions_and_locks().items():
        monkeypatch.setitem(GAPS, operation, answer)
    with mock_aws():
        monkeypatch.setattr(
            "byollm.aws.clients.Clients.client", lambda self, name: connect(name, self._region)
        )
        yield calls


def versions_and_locks() -> dict[str, Any]:
    """What moto lacks: a group of versions can be deleted when it is empty, and a stack's lock be opened."""

    def backend() -> Any:
        return sagemaker_backends[ACCOUNT][REGION]

    def delete_version(given: dict[str, Any]) -> dict[str, Any]:
        del backend().model_packages[given["ModelPackageName"]]
        return {}

    def delete_group(given: dict[str, Any]) -> dict[str, Any]:
        assert not backend().model_packages
        del backend().model_package_groups[given["ModelPackageGroupName"]]
        return {}

    return {
        "DeleteModelPackage": delete_version,
        "DeleteModelPackageGroup": delete_group,
        "UpdateTerminationProtection": lambda given: {},
    }


def stand(env: str = "dev") -> None:
    """Deploy what holds data: a bucket with versions, a group of versions, images, logs of a service."""
    s3, sagemaker = connect("s3", REGION), connect("sagemaker", REGION)
    connect("cloudformation", REGION).create_stack(StackName=f"byollm-{env}-storage", TemplateBody=TEMPLATE)
    bucket = BUCKET.replace("dev", env)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=PLACE)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        s3.put_object(Bucket=bucket, Key="weights", Body=b"1")
    s3.delete_object(Bucket=bucket, Key="weights")  # a marker, over two versions
    s3.create_multipart_upload(Bucket=bucket, Key="half")
    sagemaker.create_model_package_group(ModelPackageGroupName=f"byollm-{env}")
    sagemaker.create_model_package(ModelPackageGroupName=f"byollm-{env}")
    connect("ecr", REGION).create_repository(repositoryName=f"byollm-{env}/inference")
    connect("logs", REGION).create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/byollm-{env}")
    connect("dynamodb", REGION).create_table(
        TableName=f"byollm-{env}-storage-Usage1",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        DeletionProtectionEnabled=env == "prod",
    )


def destroy(*arguments: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["destroy", *arguments], input=typed)


def test_an_environment_that_is_not_there_has_nothing_left(aws: Any) -> None:
    ran = destroy("--env", "dev")
    assert ran.exit_code == 0, ran.output
    assert "Nothing is left of dev" in ran.output
    assert not aws


def test_all_of_dev_goes_its_objects_and_what_services_made(aws: Any) -> None:
    stand()
    ran = destroy("--env", "dev", "--yes")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert "Nothing is left of dev" in ran.output
    assert not connect("s3", REGION).list_buckets()["Buckets"]
    assert not connect("logs", REGION).describe_log_groups()["logGroups"]
    ((arguments, variables),) = aws
    assert arguments == ("destroy", "--all", "--force")
    assert variables["BYOLLM__IMAGES__GATEWAY"].startswith("sha256:")  # so that the services are in the app


@pytest.mark.parametrize("typed", ["", "prod\n", "dev \nno\n"])
def test_nothing_goes_unless_its_name_is_typed(aws: Any, typed: str) -> None:
    stand()
    ran = destroy("--env", "dev", typed=typed)
    assert ran.exit_code == 1
    assert BUCKET in ran.output  # what would go was shown
    assert not aws
    assert connect("s3", REGION).list_object_versions(Bucket=BUCKET)["Versions"]


def test_prod_is_locked_against_a_script(aws: Any) -> None:
    ran = destroy("--env", "prod", "--yes")
    assert ran.exit_code == 1
    assert "has to be typed" in str(ran.exception)


def test_prod_keeps_its_data_and_says_so(aws: Any) -> None:
    stand("prod")
    ran = destroy("--env", "prod", typed="prod\n")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert ran.output.count("kept: aws.retain") == 2 * 5
    assert (
        len(connect("s3", REGION).list_object_versions(Bucket=BUCKET.replace("dev", "prod"))["Versions"]) == 2
    )


def test_prods_data_goes_only_when_asked_for_twice(aws: Any) -> None:
    stand("prod")
    once = destroy("--env", "prod", "--also-data", typed="prod\nprod\n")
    assert once.exit_code == 1
    assert not aws
    twice = destroy("--env", "prod", "--also-data", typed="prod\nprod and its data\n")
    assert twice.exit_code == 0, (twice.output, twice.exception)
    assert not connect("s3", REGION).list_buckets()["Buckets"]
    assert not connect("dynamodb", REGION).list_tables()["TableNames"]


def test_prods_load_balancer_is_unlocked_before_its_stack_goes(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand("prod")
    subnets = [each["SubnetId"] for each in connect("ec2", REGION).describe_subnets()["Subnets"]]
    kind = "AWS::ElasticLoadBalancingV2::LoadBalancer"
    template = {"Resources": {"Balancer": {"Type": kind, "Properties": {"Subnets": subnets}}}}
    connect("cloudformation", REGION).create_stack(
        StackName="byollm-prod-services", TemplateBody=json.dumps(template)
    )
    elb = connect("elbv2", REGION)
    (arn,) = (each["LoadBalancerArn"] for each in elb.describe_load_balancers()["LoadBalancers"])
    lock = {"Key": "deletion_protection.enabled", "Value": "true"}
    elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[lock])
    whole = cdk.run_cdk

    def delete_both(*arguments: str, **given: Any) -> None:
        found = elb.describe_load_balancer_attributes(LoadBalancerArn=arn)["Attributes"]
        assert {**lock, "Value": "false"} in found  # or AWS would refuse to delete it
        connect("cloudformation", REGION).delete_stack(StackName="byollm-prod-services")
        whole(*arguments, **given)

    monkeypatch.setattr(cdk, "run_cdk", delete_both)
    ran = destroy("--env", "prod", typed="prod\n")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    assert not elb.describe_load_balancers()["LoadBalancers"]


def test_people_are_data_and_go_though_their_pool_is_locked(aws: Any) -> None:
    cognito = connect("cognito-idp", REGION)
    made = cognito.create_user_pool(PoolName="byollm-prod", DeletionProtection="ACTIVE")["UserPool"]
    people = Remains("cognito-idp", made["Arn"], REGION)  # as its tag tells of it
    assert people.kind in DATA
    assert list(remove(patient(env="prod"), [people])) == [people]
    assert not cognito.list_user_pools(MaxResults=1)["UserPools"]


def test_what_is_left_is_listed_and_is_a_failure(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byollm.cli.destroy.SETTLING_SECONDS", 0)
    connect("sns", REGION).create_topic(Name="forgotten", Tags=[{"Key": TAG, "Value": "dev"}])
    connect("sagemaker", REGION).create_model(
        ModelName="byollm-dev-0123456789ab", ExecutionRoleArn="arn:aws:iam::123456789012:role/r"
    )
    ran = destroy("--env", "dev", "--yes")
    assert ran.exit_code == 1
    assert "2 things are left" in ran.output
    assert "byollm-dev-0123456789ab" in ran.output


def test_a_deployment_under_way_is_not_disturbed(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand()
    busy = {"byollm-dev-storage": "UPDATE_IN_PROGRESS"}
    monkeypatch.setattr("byollm.doctor.patient.Patient.stacks", lambda self, region=None: busy)
    ran = destroy("--env", "dev", "--yes")
    assert ran.exit_code == 1
    assert "somebody else is changing it" in str(ran.exception)
    assert not aws


def test_an_interruption_says_how_to_go_on_and_a_second_run_does(
    aws: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand()
    whole = cdk.run_cdk

    def interrupted(*arguments: str, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cdk, "run_cdk", interrupted)
    ran = destroy("--env", "dev", "--yes")
    assert ran.exit_code == 130
    assert "goes on where this ended" in ran.output
    monkeypatch.setattr(cdk, "run_cdk", whole)
    assert destroy("--env", "dev", "--yes").exit_code == 0
