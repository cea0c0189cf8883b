"""Lifecycle: how a version of the model is released, and what is done when something is wrong."""

import json
import re
from dataclasses import dataclass
from typing import Any

from aws_cdk import App
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from stacks.accepted import accept_objects, accept_wildcards
from stacks.base import PlatformStack, on_behalf_of
from stacks.functions import FunctionPlace, PlatformFunction
from stacks.inference import InferenceStack, guard_prefix
from stacks.release import ReleaseMachine

# As SageMaker's API writes them, and as its events do.
FAILED = [
    "FAILED",
    "Failed",
    "OUT_OF_SERVICE",
    "OutOfService",
    "UPDATE_ROLLBACK_FAILED",
    "UpdateRollbackFailed",
]


@dataclass(frozen=True, kw_only=True)
class LifecyclePlace:
    """What a release reads: the weights and the image; and who hears of spending."""

    models: s3.IBucket
    repository: ecr.IRepository
    overspending: sns.ITopic


class LifecycleStack(PlatformStack):
    """The functions of a release, the state machine that calls them, and the rules that tell of it."""

    def __init__(
        self,
        app: App,
        *,
        env: str,
        inference: InferenceStack,
        place: LifecyclePlace,
        functions: FunctionPlace,
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="lifecycle",
            settings=functions.aws,
            description="Releases of the model of the byollm platform",
        )
        self._place = functions
        self._inference = inference
        self._declared = self.to_json_string(inference.deployment)
        self.releases = self._releases_topic()
        self.publish = self._publish(place)
        self.smoke_test = self._smoke_test()
        self.approve = self._approve()
        self.remediate = self._remediate()
        self.scale_down = self._scale_down(place.overspending)
        self.release = ReleaseMachine(
            self,
            functions={
                "Publish": self.publish.function,
                "Reconcile": inference.reconcile.function,
                "SmokeTest": self.smoke_test.function,
                "Approve": self.approve.function,
            },
            releases=self.releases,
            place=functions,
        )
        self._rules()
        own = (self.publish, self.smoke_test, self.approve, self.remediate, self.scale_down)
        self.functions = [function.name for function in own]

    def _function(self, name: str, description: str, **others: Any) -> PlatformFunction:
        return PlatformFunction(
            self,
            name,
            description=description,
            place=self._place,
            deployment=self._declared,
            **others,
        )

    def _publish(self, place: LifecyclePlace) -> PlatformFunction:
        function = self._function(
            "publish",
            "Registers a version of the model, which then waits for approval",
            statements=[
                iam.PolicyStatement(actions=["sagemaker:ListModelPackages"], resources=self._versions),
                # It registers, and cannot approve.
                iam.PolicyStatement(
                    actions=["sagemaker:CreateModelPackage"],
                    resources=self._versions,
                    conditions={"StringEquals": {"sagemaker:ModelApprovalStatus": "PendingManualApproval"}},
                ),
                # SageMaker looks for weights and image on behalf of who registers them.
                iam.PolicyStatement(actions=["s3:ListBucket"], resources=[place.models.bucket_arn]),
                iam.PolicyStatement(actions=["s3:GetObject"], resources=[place.models.arn_for_objects("*")]),
                iam.PolicyStatement(
                    actions=["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                    resources=[place.repository.repository_arn],
                ),
            ],
        )
        self._accept_versions(function)
        accept_objects(function, [place.models], "A model is a folder of the one bucket, which is named.")
        return function

    def _smoke_test(self) -> PlatformFunction:
        name = self._inference.endpoint_name
        function = self._function(
            "smoke_test",
            "Asks the endpoint a question",
            statements=[
                iam.PolicyStatement(
                    actions=["sagemaker:InvokeEndpoint"],
                    resources=[
                        self._sagemaker(f"endpoint/{name}"),
                        self._sagemaker(f"inference-component/{name}-main"),
                    ],
                ),
                iam.PolicyStatement(actions=["sagemaker:DescribeModelPackage"], resources=self._versions),
            ],
            timeout_s=900,  # an endpoint that sleeps takes minutes to wake
        )
        self._accept_versions(function)
        return function

    def _approve(self) -> PlatformFunction:
        function = self._function(
            "approve",
            "Approves a version of the model, or rejects it",
            statements=[
                iam.PolicyStatement(
                    actions=["sagemaker:UpdateModelPackage"],
                    resources=self._versions,
                )
            ],
            timeout_s=60,
        )
        self._accept_versions(function)
        return function

    def _remediate(self) -> PlatformFunction:
        """A function that hears of the alarms that guard the endpoint, and of nothing it says itself."""
        function = self._function(
            "remediate",
            "Does the one safe thing about an alarm of the endpoint, or says that it is for people",
            statements=[self._speak],
            policies=[self._inference.reconciling],
        )
        self._hear(
            function,
            self._place.alarms,
            {"AlarmName": [{"prefix": guard_prefix(self.environment_name)}], "NewStateValue": ["ALARM"]},
        )
        return function

    def _scale_down(self, overspending: sns.ITopic) -> PlatformFunction:
        function = self._function(
            "scale_down",
            "Takes the endpoint down to its fewest instances when the budget is spent",
            statements=[self._speak],
            policies=[self._inference.reconciling],
        )
        self._hear(function, overspending)
        return function

    @property
    def _speak(self) -> iam.PolicyStatement:
        return iam.PolicyStatement(actions=["sns:Publish"], resources=[self._place.alarms.topic_arn])

    def _hear(
        self, function: PlatformFunction, topic: sns.ITopic, only: dict[str, Any] | None = None
    ) -> None:
        """Call `function` with the messages of `topic`, or only with those whose text is JSON like this."""
        function.function.add_permission(
            "Topic", principal=iam.ServicePrincipal("sns.amazonaws.com"), source_arn=topic.topic_arn
        )
        sns.CfnSubscription(
            function,
            "Subscription",
            topic_arn=topic.topic_arn,
            protocol="lambda",
            endpoint=function.function.function_arn,
            filter_policy=only,
            filter_policy_scope="MessageBody" if only else None,
        )

    def _releases_topic(self) -> sns.Topic:
        """Where approvers hear of versions: registered, released, rejected."""
        topic = sns.Topic(
            self,
            "Releases",
            display_name=f"byollm {self.environment_name} releases",
            master_key=self._place.data_key,
            enforce_ssl=True,
        )
        for number, email in enumerate(self._place.watching.release_emails):
            sns.Subscription(
                self, f"Email{number}", topic=topic, protocol=sns.SubscriptionProtocol.EMAIL, endpoint=email
            )
        return topic

    def _rules(self) -> None:
        """Tell people what happens to versions, and what goes wrong."""
        role = iam.Role(
            self,
            "AnnouncerRole",
            description="What rules publish to",
            assumed_by=on_behalf_of(self, "events.amazonaws.com"),
        )
        alarms, releases = self._place.alarms, self.releases
        role.add_to_policy(
            iam.PolicyStatement(actions=["sns:Publish"], resources=[alarms.topic_arn, releases.topic_arn])
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                resources=[self._place.data_key.key_arn],
            )
        )
        name = self._inference.endpoint_name
        for id, source, event, detail, text, topic in (
            (
                "EndpointFailed",
                "aws.sagemaker",
                "SageMaker Endpoint State Change",
                {"EndpointName": [name], "EndpointStatus": FAILED},
                "Endpoint <EndpointName> is <EndpointStatus>",
                alarms,
            ),
            (
                "VersionChanged",
                "aws.sagemaker",
                "SageMaker Model Package State Change",
                {"ModelPackageGroupName": [name]},
                "Version <ModelPackageArn> is <ModelApprovalStatus>",
                releases,
            ),
            (
                "ReleaseFailed",
                "aws.states",
                "Step Functions Execution Status Change",
                {"stateMachineArn": [self.release.arn], "status": ["FAILED", "TIMED_OUT", "ABORTED"]},
                "Release <executionArn> is <status>",
                alarms,
            ),
        ):
            events.CfnRule(
                self,
                id,
                event_pattern={"source": [source], "detail-type": [event], "detail": detail},
                targets=[
                    events.CfnRule.TargetProperty(
                        id="topic",
                        arn=topic.topic_arn,
                        role_arn=role.role_arn,
                        input_transformer=events.CfnRule.InputTransformerProperty(
                            input_paths_map={key: f"$.detail.{key}" for key in re.findall(r"<(\w+)>", text)},
                            input_template=json.dumps(f"byollm {self.environment_name}: {text}"),
                        ),
                    )
                ],
            )

    @property
    def _versions(self) -> list[str]:
        group = self._inference.endpoint_name
        return [
            self._sagemaker(f"model-package-group/{group}"),
            self._sagemaker(f"model-package/{group}/*"),
        ]

    def _accept_versions(self, function: PlatformFunction) -> None:
        accept_wildcards(function, self._versions[1:], "Versions of the one group, which AWS numbers.")

    def _sagemaker(self, resource: str) -> str:
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{resource}"
