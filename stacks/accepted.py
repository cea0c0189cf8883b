"""Accepting what cdk-nag finds, beside the construct and with the reason why it is right there."""

from collections.abc import Iterable

from aws_cdk import Acknowledgment, Aws, Stack, Validations
from aws_cdk import aws_s3 as s3
from constructs import IConstruct


def accept(scope: IConstruct, findings: dict[str, str]) -> None:
    """Accept findings on `scope` and below: the granular id of each, and the reason."""
    rules = [Acknowledgment(id=finding, reason=reason) for finding, reason in findings.items()]
    Validations.of(scope).acknowledge(*rules)


def accept_wildcards(scope: IConstruct, resources: Iterable[str], reason: str) -> None:
    """Accept that policies of `scope` name these resources, in which there is a wildcard."""
    names = [resource.replace(Aws.ACCOUNT_ID, "<AWS::AccountId>") for resource in resources]
    accept(scope, {f"AwsSolutions-IAM5[Resource::{name}]": reason for name in names})


def accept_objects(
    scope: IConstruct, buckets: Iterable[s3.IBucket], reason: str, *, prefix: str = ""
) -> None:
    """Accept that policies of `scope` name every object of these buckets, or of a folder in them."""
    names = [_name(bucket, Stack.of(scope)) for bucket in buckets]
    accept_wildcards(scope, [f"{name}/{prefix}*" for name in names], reason)


def _name(bucket: s3.IBucket, reader: Stack) -> str:
    """Write a bucket's ARN as cdk-nag does in a finding: an attribute, or another stack's export."""
    home = Stack.of(bucket)
    if home is not reader:
        exported = reader.resolve(home.export_value(bucket.bucket_arn))
        return str(exported["Fn::ImportValue"])
    resource = bucket.node.default_child
    assert isinstance(resource, s3.CfnBucket)
    return f"<{home.get_logical_id(resource)}.Arn>"
