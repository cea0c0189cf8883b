"""Copies of the models in further regions: a bucket and a key there, a replication rule here."""

from collections.abc import Sequence

from aws_cdk import App, Aws, Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from byollm.settings import AwsSettings, StorageSettings
from stacks.accepted import accept, accept_objects, accept_wildcards
from stacks.base import PlatformStack


class ModelCopyStack(PlatformStack):
    """The bucket of one further region, named so that the first region can tell it without asking.

    CloudFormation carries no values from one region to another; hence a bucket name and a key alias that
    follow from environment, account and region.
    """

    def __init__(
        self, app: App, *, env: str, region: str, aws: AwsSettings, storage: StorageSettings
    ) -> None:
        super().__init__(
            app,
            env=env,
            role=f"models-{region}",
            settings=aws,
            description="Copies of the models of the byollm platform",
            region=region,
        )
        alias = f"byollm/{env}/models-copy"
        name = f"byollm-{env}-models-{Aws.ACCOUNT_ID}-{region}"
        self.bucket_arn = f"arn:aws:s3:::{name}"
        self.key_alias = f"alias/{alias}"
        self.key_arn_of_alias = f"arn:aws:kms:{region}:{Aws.ACCOUNT_ID}:alias/{alias}"
        key = kms.Key(
            self,
            "Key",
            alias=alias,
            description=f"Copies of the models of byollm, environment {env}",
            enable_key_rotation=True,
            pending_window=Duration.days(7),
            removal_policy=self.removal_policy,
        )
        bucket = s3.Bucket(
            self,
            "Models",
            bucket_name=name,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,  # replication asks for it
            lifecycle_rules=lifecycle(storage),
            removal_policy=self.removal_policy,
        )
        accept(
            bucket,
            {"AwsSolutions-S1": "Only replication writes to it; what it copies is logged at its source."},
        )


def lifecycle(storage: StorageSettings) -> list[s3.LifecycleRule]:
    """Cheaper storage for what nobody reads, an end for old versions and for uploads that were given up."""
    return [
        s3.LifecycleRule(
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.INTELLIGENT_TIERING,
                    transition_after=Duration.days(storage.tiering_days),
                )
            ],
            noncurrent_version_expiration=Duration.days(storage.old_version_days),
            abort_incomplete_multipart_upload_after=Duration.days(7),
        )
    ]


def copy_models(models: s3.Bucket, *, key: kms.IKey, copies: Sequence[ModelCopyStack]) -> None:
    """Replicate `models`, encrypted with `key`, to every copy."""
    if not copies:
        return
    role = iam.Role(models, "CopyRole", assumed_by=iam.ServicePrincipal("s3.amazonaws.com"))
    for statement in _permissions(models, key, copies):
        role.add_to_policy(statement)
    bucket = models.node.default_child
    assert isinstance(bucket, s3.CfnBucket)
    # Set below the construct library, which takes a key of another region only by its generated id.
    bucket.replication_configuration = s3.CfnBucket.ReplicationConfigurationProperty(
        role=role.role_arn,
        rules=[
            s3.CfnBucket.ReplicationRuleProperty(
                id=copy.region,
                status="Enabled",
                priority=priority,
                filter=s3.CfnBucket.ReplicationRuleFilterProperty(prefix=""),
                delete_marker_replication=s3.CfnBucket.DeleteMarkerReplicationProperty(status="Disabled"),
                source_selection_criteria=s3.CfnBucket.SourceSelectionCriteriaProperty(
                    sse_kms_encrypted_objects=s3.CfnBucket.SseKmsEncryptedObjectsProperty(status="Enabled")
                ),
                destination=s3.CfnBucket.ReplicationDestinationProperty(
                    bucket=copy.bucket_arn,
                    encryption_configuration=s3.CfnBucket.EncryptionConfigurationProperty(
                        replica_kms_key_id=copy.key_arn_of_alias
                    ),
                ),
            )
            for priority, copy in enumerate(copies, start=1)
        ],
    )
    for copy in copies:
        # Replication is refused while its destination does not exist.
        models.stack.add_stack_dependency(copy)
    everything = "Replication takes every object; the bucket is named."
    accept_objects(role, [models], everything)
    accept_wildcards(role, [f"{copy.bucket_arn}/*" for copy in copies], everything)
    keys = [f"arn:aws:kms:{copy.region}:{Aws.ACCOUNT_ID}:key/*" for copy in copies]
    accept_wildcards(role, keys, "A condition narrows it to the key that has the copy's alias.")


def _permissions(
    models: s3.Bucket, key: kms.IKey, copies: Sequence[ModelCopyStack]
) -> list[iam.PolicyStatement]:
    """What replication needs and no more.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/setting-repl-config-perm-overview.html
    """
    return [
        iam.PolicyStatement(
            actions=["s3:GetReplicationConfiguration", "s3:ListBucket"], resources=[models.bucket_arn]
        ),
        iam.PolicyStatement(
            actions=[
                "s3:GetObjectVersionForReplication",
                "s3:GetObjectVersionAcl",
                "s3:GetObjectVersionTagging",
            ],
            resources=[models.arn_for_objects("*")],
        ),
        iam.PolicyStatement(
            actions=["s3:ReplicateObject", "s3:ReplicateTags"],
            resources=[f"{copy.bucket_arn}/*" for copy in copies],
        ),
        iam.PolicyStatement(actions=["kms:Decrypt"], resources=[key.key_arn]),
        *(
            iam.PolicyStatement(
                actions=["kms:Encrypt", "kms:GenerateDataKey"],
                # The key's id is known only where it is made; its alias names it.
                resources=[f"arn:aws:kms:{copy.region}:{Aws.ACCOUNT_ID}:key/*"],
                conditions={"ForAnyValue:StringEquals": {"kms:ResourceAliases": copy.key_alias}},
            )
            for copy in copies
        ),
    ]
