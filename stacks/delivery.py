"""The pipeline: from a push over tests, images and a first environment to one that people depend on."""

from dataclasses import dataclass

from aws_cdk import App
from aws_cdk import aws_codepipeline as codepipeline
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from byollm.settings import AwsSettings, DeliverySettings, SettingsError
from stacks.base import PlatformStack, on_behalf_of
from stacks.builds import Builds, Work
from stacks.rights import deploying, registry, releasing

IMAGES = ("inference", "gateway", "frontend")
"""Images that the pipeline builds; their digests go onward under these names, as do the settings `images`."""


@dataclass(frozen=True, kw_only=True)
class DeliveryPlace:
    """What the pipeline keeps its work in, and where images go."""

    artefacts: s3.IBucket
    repositories: dict[str, ecr.Repository]
    data_key: kms.IKey
    logs_key: kms.IKey
    regions: tuple[str, ...]
    """All regions that the environment has stacks in."""


class DeliveryStack(PlatformStack):
    """The pipeline, its builds, their roles, and the topic by which people are asked."""

    def __init__(
        self, app: App, *, env: str, aws: AwsSettings, delivery: DeliverySettings, place: DeliveryPlace
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="delivery",
            settings=aws,
            description="Pipeline of the byollm platform",
        )
        if delivery.first == env:
            raise SettingsError(
                f"delivery.first: {env} has the pipeline itself. Name another environment, or set delivery "
                "in the file of the one that people depend on"
            )
        self._env, self._delivery, self._place = env, delivery, place
        work = Work(place.artefacts, f"byollm-{env}/", place.data_key)
        self._builds = Builds(self, aws=aws, work=work, logs_key=place.logs_key)
        self._add_builds()
        topic = self._topic()
        role = self._role(work, topic)
        pipeline = codepipeline.CfnPipeline(
            self,
            "Pipeline",
            name=f"byollm-{env}",
            role_arn=role.role_arn,
            pipeline_type="V2",
            execution_mode="SUPERSEDED",  # who waits for approval gives way to what is newer
            # A pipeline that has changed itself begins again, as its new self.
            restart_execution_on_update=True,
            artifact_store=codepipeline.CfnPipeline.ArtifactStoreProperty(
                type="S3",
                location=place.artefacts.bucket_name,
                encryption_key=codepipeline.CfnPipeline.EncryptionKeyProperty(
                    type="KMS", id=place.data_key.key_arn
                ),
            ),
            stages=[
                codepipeline.CfnPipeline.StageDeclarationProperty(name=name, actions=actions)
                for name, actions in self._stages(topic).items()
            ],
        )
        pipeline.node.add_dependency(role)

    def _add_builds(self) -> None:
        """One build for each kind of work, each with the rights of that work alone."""
        first, own, builds = self._delivery.first, self._env, self._builds
        theirs = [self._repository(first, image) for image in IMAGES]
        ours = [self._place.repositories[image].repository_arn for image in IMAGES]
        deploys = deploying(self, self._place.regions)
        builds.add("test")
        builds.add("update", rights=deploys)
        builds.add("images", rights=registry(pushed=theirs), docker=True)
        builds.add("smoke", rights=registry(pulled=theirs), docker=True, gpu=True)
        builds.add("promote", rights=registry(pulled=theirs, pushed=ours), docker=True)
        for env in (first, own):
            builds.add("deploy", env=env, rights=deploys + releasing(self, env))
        builds.add("end_to_end")

    def _stages(
        self, topic: sns.Topic
    ) -> dict[str, list[codepipeline.CfnPipeline.ActionDeclarationProperty]]:
        first, own, builds = self._delivery.first, self._env, self._builds
        digests = {f"BYOLLM__IMAGES__{image.upper()}": f"#{{Images.{image.upper()}}}" for image in IMAGES}
        revision = {"REVISION": "#{Source.CommitId}"}

        def deployed(env: str, order: int) -> list[codepipeline.CfnPipeline.ActionDeclarationProperty]:
            told = {"ENVIRONMENT": env}
            asked = told | {"ADDRESS": f"#{{{env.capitalize()}.ADDRESS}}"}
            return [
                builds.action(
                    "deploy", env=env, order=order, told=told | digests, namespace=env.capitalize()
                ),
                builds.action("end_to_end", order=order + 1, told=asked),
            ]

        return {
            "Source": [self._source()],
            "Test": [builds.action("test")],
            "Update": [builds.action("update", told={"ENVIRONMENT": own})],
            "Images": [
                builds.action("images", told={"ENVIRONMENT": first} | revision, namespace="Images"),
                builds.action("smoke", order=2, told={"ENVIRONMENT": first} | digests),
            ],
            "First": deployed(first, 1),
            "Approve": [
                codepipeline.CfnPipeline.ActionDeclarationProperty(
                    name="Approve",
                    action_type_id=_type("Approval", "Manual", "AWS"),
                    configuration={
                        "NotificationArn": topic.topic_arn,
                        "CustomData": f"Deploy #{{Source.CommitId}} to {own}? It runs in {first}.",
                    },
                )
            ],
            "Own": [
                builds.action("promote", told={"FROM": first, "ENVIRONMENT": own} | digests | revision),
                *deployed(own, 2),
            ],
        }

    def _source(self) -> codepipeline.CfnPipeline.ActionDeclarationProperty:
        return codepipeline.CfnPipeline.ActionDeclarationProperty(
            name="Source",
            action_type_id=_type("Source", "CodeStarSourceConnection", "AWS"),
            namespace="Source",
            output_artifacts=[codepipeline.CfnPipeline.OutputArtifactProperty(name="Source")],
            configuration={
                "ConnectionArn": self._delivery.connection_arn,
                "FullRepositoryId": self._delivery.repository,
                "BranchName": self._delivery.branch,
                "OutputArtifactFormat": "CODE_ZIP",
                "DetectChanges": "true",
            },
        )

    def _topic(self) -> sns.Topic:
        topic = sns.Topic(
            self,
            "Approvals",
            display_name=f"byollm {self._env}",
            master_key=self._place.data_key,
            enforce_ssl=True,
        )
        for number, email in enumerate(self._delivery.approvers):
            sns.Subscription(
                self,
                f"Approver{number}",
                topic=topic,
                protocol=sns.SubscriptionProtocol.EMAIL,
                endpoint=email,
            )
        return topic

    def _role(self, work: Work, topic: sns.Topic) -> iam.Role:
        """What the pipeline itself does: fetch the source, hand it on, start builds, ask people."""
        role = iam.Role(self, "PipelineRole", assumed_by=on_behalf_of(self, "codepipeline.amazonaws.com"))
        key = self._place.data_key.key_arn
        for statement in (
            iam.PolicyStatement(
                actions=["codeconnections:UseConnection", "codestar-connections:UseConnection"],
                resources=[str(self._delivery.connection_arn)],
                conditions={
                    "StringEqualsIfExists": {
                        "codeconnections:FullRepositoryId": self._delivery.repository,
                        "codestar-connections:FullRepositoryId": self._delivery.repository,
                    }
                },
            ),
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"], resources=[work.arn]
            ),
            iam.PolicyStatement(
                actions=["s3:GetBucketVersioning", "s3:GetBucketLocation"],
                resources=[self._place.artefacts.bucket_arn],
            ),
            iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[key]),
            iam.PolicyStatement(
                actions=["codebuild:BatchGetBuilds", "codebuild:StartBuild"], resources=self._builds.arns
            ),
            iam.PolicyStatement(actions=["sns:Publish"], resources=[topic.topic_arn]),
        ):
            role.add_to_policy(statement)
        work.accept(role)
        return role

    def _repository(self, env: str, image: str) -> str:
        return f"arn:aws:ecr:{self.region}:{self.account}:repository/byollm-{env}/{image}"


def _type(category: str, provider: str, owner: str) -> codepipeline.CfnPipeline.ActionTypeIdProperty:
    return codepipeline.CfnPipeline.ActionTypeIdProperty(
        category=category, owner=owner, provider=provider, version="1"
    )
