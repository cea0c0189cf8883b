"""Watching: the topics that people and functions hear from, the budget, the record of calls.

Nothing here knows of what is watched, so that every other stack may send alarms here.
"""

from aws_cdk import App, Duration, SecretValue
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
        self.alarms = self._topic("Alarms", "alarms", data_key)
        # Who subscribes to it brings the endpoint down: see the lifecycle stack.
        self.overspending = self._topic("Overspending", "overspending", data_key)
        self._tell(watching)
        if watching.monthly_budget_usd is not None:
            self._budget(watching.monthly_budget_usd)
        if watching.trail:
            self._trail(aws, data_key, logs_key, access_logs)

    def _topic(self, id: str, about: str, key: kms.IKey) -> sns.Topic:
        topic = sns.Topic(
            self,
            id,
            display_name=f"byollm {self.environment_name} {about}",
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
        return topic

    def _tell(self, watching: ObservabilitySettings) -> None:
        for number, email in enumerate(watching.alarm_emails):
            sns.Subscription(
                self,
                f"Email{number}",
                topic=self.alarms,
                protocol=sns.SubscriptionProtocol.EMAIL,
                endpoint=email,
            )
        if watching.pagerduty_secret:
            sns.Subscription(
                self,
                "PagerDuty",
                topic=self.alarms,
                protocol=sns.SubscriptionProtocol.HTTPS,
                # The template names the secret; CloudFormation reads it as it deploys.
                endpoint=SecretValue.secrets_manager(watching.pagerduty_secret).unsafe_unwrap(),
            )

    def _budget(self, amount: float) -> None:
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
                    subscribers=[
                        budgets.CfnBudget.SubscriberProperty(address=topic.topic_arn, subscription_type="SNS")
                    ],
                )
                for kind, percent, topic in (
                    ("ACTUAL", 80, self.alarms),
                    ("FORECASTED", 100, self.alarms),
                    ("ACTUAL", 100, self.overspending),
                )
            ],
        )
        # AWS tries the subscribers when the budget is made.
        for topic in (self.alarms, self.overspending):
            budget.node.add_dependency(topic.node.find_child("Policy"))

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
