"""Takes away what CloudFormation does not: objects, versions, images, logs and locks."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from byollm.aws import listed
from byollm.doctor.patient import Patient
from byollm.doctor.remains import Remains
from byollm.settings import ByollmError

DELETED_AT_ONCE = 1000  # objects, as many as S3 takes in one call
BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
KEY_DAYS = 7  # the shortest time that AWS lets pass before a key is gone


class RemovalError(ByollmError):
    """Something cannot be removed."""


def unlock(patient: Patient) -> None:
    """Let the environment's stacks, and the load balancer in them, be deleted where settings forbid it."""
    for region in patient.regions:
        for stack in patient.stacks(region):
            patient.client("cloudformation", region).update_termination_protection(
                StackName=stack, EnableTerminationProtection=False
            )
    services = f"byollm-{patient.env}-services"
    if services not in patient.stacks():
        return
    # CloudFormation deletes it as it is, and AWS refuses to while it protects it.
    balancers = patient.client("elbv2")
    for resource in listed(
        patient.client("cloudformation"), "list_stack_resources", "StackResourceSummaries", StackName=services
    ):
        if resource["ResourceType"] == BALANCER and resource["ResourceStatus"] != "DELETE_COMPLETE":
            balancers.modify_load_balancer_attributes(
                LoadBalancerArn=resource["PhysicalResourceId"],
                Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}],
            )


def remove(patient: Patient, things: Iterable[Remains]) -> Iterator[Remains]:
    """Remove each of `things` that is of a kind known here; yield it when it is gone."""
    for each in things:
        if each.kind in REMOVERS:
            REMOVERS[each.kind](patient, each)
            yield each


def empty_bucket(patient: Patient, bucket: Remains) -> None:
    """Delete every object of a bucket, in all its versions, and what uploads left unfinished.

    Raises:
        RemovalError: S3 keeps an object.
    """
    s3 = _s3(patient, bucket)
    for batch in _batches(_versions(s3, bucket.name)):
        answer = s3.delete_objects(Bucket=bucket.name, Delete={"Objects": batch, "Quiet": True})
        for fault in answer.get("Errors", ()):
            raise RemovalError(
                f"s3://{bucket.name}/{fault['Key']} stays: {fault['Message']} ({fault['Code']})"
            )
    for upload in listed(s3, "list_multipart_uploads", "Uploads", Bucket=bucket.name):
        s3.abort_multipart_upload(Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"])


def empty_group(patient: Patient, group: Remains) -> None:
    """Delete every version of the model; a group that has any cannot be deleted."""
    sagemaker = patient.client("sagemaker")
    versions = listed(
        sagemaker, "list_model_packages", "ModelPackageSummaryList", ModelPackageGroupName=group.name
    )
    for version in list(versions):
        sagemaker.delete_model_package(ModelPackageName=version["ModelPackageArn"])


def _remove_bucket(patient: Patient, bucket: Remains) -> None:
    empty_bucket(patient, bucket)
    _s3(patient, bucket).delete_bucket(Bucket=bucket.name)


def _remove_group(patient: Patient, group: Remains) -> None:
    empty_group(patient, group)
    patient.client("sagemaker").delete_model_package_group(ModelPackageGroupName=group.name)


def _remove_table(patient: Patient, table: Remains) -> None:
    dynamodb = patient.client("dynamodb")
    dynamodb.update_table(TableName=table.name, DeletionProtectionEnabled=False)
    dynamodb.get_waiter("table_exists").wait(TableName=table.name)
    dynamodb.delete_table(TableName=table.name)
    dynamodb.get_waiter("table_not_exists").wait(TableName=table.name)


def _remove_people(patient: Patient, pool: Remains) -> None:
    cognito, name = patient.client("cognito-idp"), pool.name.rpartition("/")[2]
    # Whatever is not named falls back to a default, which matters no more.
    cognito.update_user_pool(UserPoolId=name, DeletionProtection="INACTIVE")
    cognito.delete_user_pool(UserPoolId=name)


def _remove_repository(patient: Patient, repository: Remains) -> None:
    patient.client("ecr").delete_repository(repositoryName=repository.name, force=True)


def _remove_logs(patient: Patient, group: Remains) -> None:
    patient.client("logs").delete_log_group(logGroupName=group.name)


def _remove_key(patient: Patient, alias: Remains) -> None:
    """Have AWS delete the key of an alias; there is no sooner than in a week."""
    kms = patient.client("kms", alias.region)
    key = kms.describe_key(KeyId=alias.name)["KeyMetadata"]
    kms.delete_alias(AliasName=alias.name)
    if key["KeyState"] != "PendingDeletion":
        kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=KEY_DAYS)


REMOVERS: dict[str, Callable[[Patient, Remains], None]] = {
    "bucket": _remove_bucket,
    "cognito-idp": _remove_people,
    "image repository": _remove_repository,
    "key alias": _remove_key,
    "log group": _remove_logs,
    "model package group": _remove_group,
    "table": _remove_table,
}


def _s3(patient: Patient, bucket: Remains) -> Any:
    """Return the client of the bucket's own region; lists of buckets do not tell it."""
    place = patient.client("s3").get_bucket_location(Bucket=bucket.name)["LocationConstraint"]
    return patient.client("s3", place or "us-east-1")  # the one region that is not named


def _versions(s3: Any, bucket: str) -> Iterator[dict[str, str]]:
    try:
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                yield {"Key": each["Key"], "VersionId": each["VersionId"]}
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucket":
            raise


def _batches(objects: Iterable[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    batch: list[dict[str, str]] = []
    for each in objects:
        batch.append(each)
        if len(batch) == DELETED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
