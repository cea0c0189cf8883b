"""What is stored: data, models, artefacts and the logs of who touched them; keys, usage and jobs."""

from aws_cdk import App, Duration
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from byollm.settings import AwsSettings, StorageSettings
from stacks.accepted import accept
from stacks.base import PlatformStack
from stacks.copies import ModelCopyStack, copy_models, lifecycle


class StorageStack(PlatformStack):
    """Buckets and tables, encrypted with the platform's key, reachable over TLS only."""

    def __init__(
        self,
        app: App,
        *,
        env: str,
        aws: AwsSettings,
        storage: StorageSettings,
        data_key: kms.IKey,
        copies: list[ModelCopyStack],
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="storage",
            settings=aws,
            description="Buckets and tables of the byollm platform",
        )
        self.key = data_key
        self.access_logs = self._access_log_bucket(storage)
        self.data = self._bucket("Data", storage)
        self.models = self._bucket("Models", storage)
        self.artefacts = self._bucket("Artefacts", storage)
        copy_models(self.models, key=data_key, copies=copies)

        # The gateway looks a key up by its hash; the key itself is nowhere.
        self.api_keys = self._table("ApiKeys", partition="key_hash")
        # One item a request, read a tenant and a span of time at a time.
        self.usage = self._table("Usage", partition="tenant", sort="request")
        # What has been started and must not be started twice.
        self.jobs = self._table("Jobs", partition="job")

    def _access_log_bucket(self, storage: StorageSettings) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "AccessLogs",
            # S3 and the load balancer deliver their logs to buckets under S3's own key only.
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-server-access-logging.html
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(storage.access_log_days),
                    noncurrent_version_expiration=Duration.days(1),
                    abort_incomplete_multipart_upload_after=Duration.days(7),
                )
            ],
            removal_policy=self.removal_policy,
        )
        accept(
            bucket, {"AwsSolutions-S1": "It holds the access logs; logging its own access would never end."}
        )
        return bucket

    def _bucket(self, name: str, storage: StorageSettings) -> s3.Bucket:
        return s3.Bucket(
            self,
            name,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            transfer_acceleration=storage.transfer_acceleration,
            server_access_logs_bucket=self.access_logs,
            server_access_logs_prefix=f"s3/{name.lower()}/",
            lifecycle_rules=lifecycle(storage),
            removal_policy=self.removal_policy,
        )

    def _table(self, name: str, *, partition: str, sort: str | None = None) -> dynamodb.Table:
        string = dynamodb.AttributeType.STRING
        return dynamodb.Table(
            self,
            name,
            partition_key=dynamodb.Attribute(name=partition, type=string),
            sort_key=dynamodb.Attribute(name=sort, type=string) if sort else None,
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute="expires_at",
            deletion_protection=self.termination_protection,
            removal_policy=self.removal_policy,
        )
