"""Encryption keys: one for what the platform stores, one for what it logs."""

from aws_cdk import App, Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from byollm.settings import AwsSettings
from stacks.base import PlatformStack

ANNOUNCING_SERVICES = ("budgets.amazonaws.com", "cloudwatch.amazonaws.com")
"""Services that send to the topic of alarms, and so need its key."""


class KeysStack(PlatformStack):
    """Customer-managed keys, rotated every year.

    Access is given by the roles' own policies: a key policy that named the roles of other stacks would tie
    this stack to all of them.
    """

    def __init__(self, app: App, *, env: str, settings: AwsSettings) -> None:
        super().__init__(
            app, env=env, role="keys", settings=settings, description="Encryption keys of the byollm platform"
        )
        self.data = self._key("data", "Buckets, tables, queues and images")
        # Alarms and budgets send to an encrypted topic.
        # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        self.data.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service) for service in ANNOUNCING_SERVICES],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],  # in a key's policy: this key
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        # What a release logs was encrypted with it.
        # https://docs.aws.amazon.com/step-functions/latest/dg/encryption-at-rest.html
        self.data.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("delivery.logs.amazonaws.com")],
                actions=["kms:Decrypt"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        # The record of calls is written under it.
        # https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html
        self.data.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudtrail.amazonaws.com")],
                actions=["kms:GenerateDataKey*"],
                resources=["*"],
                conditions={
                    "StringLike": {
                        "kms:EncryptionContext:aws:cloudtrail:arn": (
                            f"arn:aws:cloudtrail:*:{self.account}:trail/*"
                        )
                    }
                },
            )
        )
        self.data.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudtrail.amazonaws.com")],
                actions=["kms:DescribeKey"],  # tells of the key, opens nothing
                resources=["*"],
            )
        )
        self.logs = self._key("logs", "Log groups")
        # The service asks for each log group by name: nobody else's can be read with this key.
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
        self.logs.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{self.region}.amazonaws.com")],
                actions=[
                    "kms:Encrypt*",
                    "kms:Decrypt*",
                    "kms:ReEncrypt*",
                    "kms:GenerateDataKey*",
                    "kms:Describe*",
                ],
                resources=["*"],  # in a key's policy: this key
                conditions={
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{self.region}:{self.account}:*"
                    }
                },
            )
        )

    def _key(self, name: str, description: str) -> kms.Key:
        return kms.Key(
            self,
            name.capitalize(),
            alias=f"byollm/{self.environment_name}/{name}",
            description=f"{description} of byollm, environment {self.environment_name}",
            enable_key_rotation=True,
            pending_window=Duration.days(7),  # the shortest; a key in use is kept by removal_policy
            removal_policy=self.removal_policy,
        )
