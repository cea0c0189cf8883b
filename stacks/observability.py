"""Watching: the topic that alarms are sent to, the budget, the record of calls."""

from aws_cdk import App, Duration
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from byollm.settings import AwsSettings, ObservabilitySettings
from stacks.base import PlatformStack
from stacks.keys import ANNOUNCING_SERVICES
from stacks.logs import log_group


class ObservabilityStack(PlatformStack):
    """Who is told of what."""

    def __init__(
        self,
        app: App,
        *,
        env: str,
        aws: AwsSettings,
        watching: ObservabilitySettings,
        data_key: kms.IKey,
        logs_key: kms.IKey,
        access_logs: s3.IBucket,
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="observability",
            settings=aws,
            description="Alarms, budget and record of the byollm platform",
        )
        self.alarms = self._topic(watching, data_key)
        if watching.monthly_budget_usd is not None:
            self._budget(watching.monthly_budget_usd)
        if watching.trail:
            self._trail(aws, data_key, logs_key, access_logs)

    def _topic(self, watching: ObservabilitySettings, key: kms.IKey) -> sns.Topic:
        topic = sns.Topic(
            self,
            "Alarms",
            display_name=f"byollm {self.environment_name}",
            master_key=key,
            enforce_ssl=True,
        )
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(service) for service in ANNOUNCING_SERVICES],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        for number, email in enumerate(watching.alarm_emails):
            sns.Subscription(
                self, f"Email{number}", topic=topic, protocol=sns.SubscriptionProtocol.EMAIL, endpoint=email
            )
        return topic

    def _budget(self, amount: float) -> None:
        subscriber = budgets.CfnBudget.SubscriberProperty(
            address=self.alarms.topic_arn, subscription_type="SNS"
        )
        budget = budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=f"byollm-{self.environment_name}",
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=amount, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:byollm:environment${self.environment_name}"]},
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN",
                        notification_type=kind,
                        threshold=percent,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[subscriber],
                )
                for kind, percent in (("ACTUAL", 80), ("FORECASTED", 100))
            ],
        )
        # AWS tries the subscriber when the budget is made.
        budget.node.add_dependency(self.alarms.node.find_child("Policy"))

    def _trail(
        self, aws: AwsSettings, data_key: kms.IKey, logs_key: kms.IKey, access_logs: s3.IBucket
    ) -> None:
        bucket = s3.Bucket(
            self,
            "Calls",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=data_key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix="s3/calls/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(aws.log_days),
                    noncurrent_version_expiration=Duration.days(1),
                    abort_incomplete_multipart_upload_after=Duration.days(7),
                )
            ],
            removal_policy=self.removal_policy,
        )
        cloudtrail.Trail(
            self,
            "Trail",
            bucket=bucket,
            encryption_key=data_key,
            cloud_watch_log_group=log_group(self, "CallLog", aws=aws, key=logs_key),
            send_to_cloud_watch_logs=True,
            enable_file_validation=True,
            is_multi_region_trail=True,
        )
