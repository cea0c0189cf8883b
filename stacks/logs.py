"""Log groups: encrypted, kept as long as the settings say."""

from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs

from byollm.settings import AwsSettings
from stacks.base import PlatformStack


def log_group(
    stack: PlatformStack, id: str, *, aws: AwsSettings, key: kms.IKey, name: str | None = None
) -> logs.LogGroup:
    """Add a log group to `stack`; `name` where a service or a person looks for it by name."""
    group = logs.LogGroup(
        stack, id, log_group_name=name, encryption_key=key, removal_policy=stack.removal_policy
    )
    resource = group.node.default_child
    assert isinstance(resource, logs.CfnLogGroup)
    resource.retention_in_days = aws.log_days  # the construct library knows days by names only
    return group
