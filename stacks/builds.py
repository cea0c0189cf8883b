"""Builds: each a CodeBuild project with a buildspec of `pipeline/` and a role of its own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_codepipeline as codepipeline
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from byollm.settings import AwsSettings
from stacks.accepted import accept, accept_objects, accept_wildcards
from stacks.base import PlatformStack, on_behalf_of
from stacks.logs import log_group
from stacks.rights import Rights

DEBIAN = "public.ecr.aws/docker/library/python:3.11-bookworm"  # what byollm is developed and tested on
WITH_DOCKER = "aws/codebuild/amazonlinux-x86_64-standard:5.0"
LONGEST_MINUTES = 120
NOTHING = Rights()


@dataclass(frozen=True)
class Work:
    """Where builds find the source: a folder of a bucket, and its key.

    Attributes:
        archive: the file in it, where no pipeline lays one for each run.
    """

    bucket: s3.IBucket
    prefix: str
    key: kms.IKey
    archive: str | None = None

    @property
    def arn(self) -> str:
        """The ARN of all that is in it."""
        return self.bucket.arn_for_objects(f"{self.prefix}*")

    @property
    def location(self) -> str | None:
        """Where the archive is, as CodeBuild is told it."""
        return f"{self.bucket.bucket_name}/{self.prefix}{self.archive}" if self.archive else None

    def accept(self, role: iam.Role) -> None:
        """Accept that policies of `role` name the whole folder."""
        accept_objects(role, [self.bucket], "The folder is there for this alone.", prefix=self.prefix)


class Builds:
    """Projects `byollm-<env>-<build>[-<environment>]`, and the pipeline's actions that start them.

    Args:
        stack: what they are part of.
        work: where they find the source.
        logs_key: the key of the logs.
    """

    def __init__(self, stack: PlatformStack, *, aws: AwsSettings, work: Work, logs_key: kms.IKey) -> None:
        self._stack, self._aws, self._work, self._logs_key = stack, aws, work, logs_key
        self._projects: dict[str, codebuild.CfnProject] = {}

    @property
    def arns(self) -> list[str]:
        """All that have been added."""
        return [project.attr_arn for project in self._projects.values()]

    def add(
        self,
        build: str,
        *,
        env: str | None = None,
        rights: Rights = NOTHING,
        docker: bool = False,
        gpu: bool = False,
    ) -> None:
        """Add the project that runs `pipeline/<build>.yml`.

        Args:
            build: its name.
            env: the environment that it may touch, where there is one for each.
            rights: what it may do beyond reading the source and writing logs.
            docker: whether it runs containers.
            gpu: whether it needs a GPU.
        """
        key = _key(build, env)
        name = f"byollm-{self._stack.environment_name}-{key.replace('_', '-')}"
        id = "".join(word.capitalize() for word in key.replace("-", "_").split("_"))
        logs = log_group(
            self._stack, f"{id}Logs", aws=self._aws, key=self._logs_key, name=f"/aws/codebuild/{name}"
        )
        role = iam.Role(
            self._stack, f"{id}Role", assumed_by=on_behalf_of(self._stack, "codebuild.amazonaws.com")
        )
        for statement in (
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[logs.log_group_arn]
            ),
            iam.PolicyStatement(actions=["s3:GetObject", "s3:GetObjectVersion"], resources=[self._work.arn]),
            iam.PolicyStatement(actions=["kms:Decrypt"], resources=[self._work.key.key_arn]),
            *self._fetching(),
            *rights.statements,
        ):
            role.add_to_policy(statement)
        self._work.accept(role)
        for resource, reason in rights.wildcards.items():
            accept_wildcards(role, [resource], reason)
        project = codebuild.CfnProject(
            self._stack,
            f"{id}Build",
            name=name,
            service_role=role.role_arn,
            encryption_key=self._work.key.key_arn,
            timeout_in_minutes=LONGEST_MINUTES,
            source=codebuild.CfnProject.SourceProperty(
                type="S3" if self._work.archive else "CODEPIPELINE",
                location=self._work.location,
                build_spec=f"pipeline/{build}.yml",
            ),
            artifacts=codebuild.CfnProject.ArtifactsProperty(
                type="NO_ARTIFACTS" if self._work.archive else "CODEPIPELINE"
            ),
            environment=codebuild.CfnProject.EnvironmentProperty(
                type="LINUX_GPU_CONTAINER" if gpu else "LINUX_CONTAINER",
                compute_type="BUILD_GENERAL1_SMALL" if gpu else "BUILD_GENERAL1_LARGE",
                image=WITH_DOCKER if docker else DEBIAN,
                privileged_mode=docker,
            ),
            logs_config=codebuild.CfnProject.LogsConfigProperty(
                cloud_watch_logs=codebuild.CfnProject.CloudWatchLogsConfigProperty(
                    status="ENABLED", group_name=logs.log_group_name
                )
            ),
        )
        project.node.add_dependency(role)
        if docker:
            accept(project, {"AwsSolutions-CB3": "It builds or runs images, which takes a Docker daemon."})
        else:
            accept(project, {"AwsSolutions-CB5": "It runs on the Debian that byollm is developed on."})
        self._projects[key] = project

    def _fetching(self) -> list[iam.PolicyStatement]:
        """Return what CodeBuild asks of a bucket that it fetches an archive from by itself."""
        if self._work.archive is None:
            return []
        actions = ["s3:GetBucketAcl", "s3:GetBucketLocation"]
        return [iam.PolicyStatement(actions=actions, resources=[self._work.bucket.bucket_arn])]

    def action(
        self,
        build: str,
        *,
        env: str | None = None,
        order: int = 1,
        told: Mapping[str, str] | None = None,
        namespace: str | None = None,
    ) -> codepipeline.CfnPipeline.ActionDeclarationProperty:
        """Return the action that runs a build on the source.

        Args:
            build: its name, as it was added.
            env: as it was added.
            order: its place in the stage; those of the same order run at a time.
            told: environment variables; none of them is a secret.
            namespace: where the variables that it exports are found by later actions.
        """
        variables = [
            {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in (told or {}).items()
        ]
        return codepipeline.CfnPipeline.ActionDeclarationProperty(
            name=build.replace("_", " ").title().replace(" ", ""),
            action_type_id=codepipeline.CfnPipeline.ActionTypeIdProperty(
                category="Build", owner="AWS", provider="CodeBuild", version="1"
            ),
            run_order=order,
            namespace=namespace,
            input_artifacts=[codepipeline.CfnPipeline.InputArtifactProperty(name="Source")],
            configuration={
                "ProjectName": self._projects[_key(build, env)].ref,
                **({"EnvironmentVariables": json.dumps(variables)} if variables else {}),
            },
        )


def _key(build: str, env: str | None) -> str:
    return f"{build}-{env}" if env else build
