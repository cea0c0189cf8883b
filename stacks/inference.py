"""Inference: what the endpoint may touch, the functions that make it what it should be, what watches it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aws_cdk import App, CustomResource, Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from byollm.settings import EndpointSpec
from stacks.accepted import accept_objects
from stacks.alarms import alarm
from stacks.base import PlatformStack
from stacks.execution import ExecutionRole, Place
from stacks.functions import FunctionPlace, PlatformFunction
from stacks.logs import log_group
from stacks.metrics import MICROSECONDS, cores, of_calls, of_instances
from stacks.reconciler import ReconcilerPolicy

UNHEALTHY_PERCENT = 50
"""An endpoint that fails more calls than this is not unlucky but broken."""

LONGEST_RUN_S = 900
"""No function may run longer."""


@dataclass(frozen=True, kw_only=True)
class InferencePlace(Place):
    """Where the endpoint runs, and the models that it reads."""

    models: s3.IBucket


class InferenceStack(PlatformStack):
    """All about the endpoint but the endpoint, which belongs to the reconciler.

    The reconciler is a function. CloudFormation calls it through a custom resource when the declared
    endpoint changes and when the stack goes; a release calls it until the endpoint is as it should be.
    """

    def __init__(
        self, app: App, *, env: str, spec: EndpointSpec, place: InferencePlace, functions: FunctionPlace
    ) -> None:
        super().__init__(
            app,
            env=env,
            role="inference",
            settings=functions.aws,
            description="The endpoint of the byollm platform and what makes it so",
        )
        self.endpoint_name = f"byollm-{env}"
        self.execution = self._execution_role(place)
        self.reconciling = ReconcilerPolicy(self, "Reconciler", execution=self.execution, place=place)
        self.deployment = self._declare(spec, place, functions)
        declared = self.to_json_string(self.deployment)
        self.reconcile = PlatformFunction(
            self,
            "reconcile",
            description="Takes the endpoint nearer to what it should be",
            place=functions,
            deployment=declared,
            policies=[self.reconciling],
        )
        resource = PlatformFunction(
            self,
            "endpoint_resource",
            description="Makes the endpoint what its stack declares, and removes it with the stack",
            place=functions,
            deployment=declared,
            policies=[self.reconciling],
            timeout_s=LONGEST_RUN_S,
        )
        # An endpoint takes longer than a function may run: it then calls itself to go on.
        resource.function.add_to_role_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[resource.arn])
        )
        self._endpoint(resource, declared, functions)
        self.functions = [self.reconcile.name, resource.name]
        self.guards = [
            name for variant in spec.variants for name in self._alarms(spec, variant.name, functions)
        ]

    def _execution_role(self, place: InferencePlace) -> ExecutionRole:
        role = ExecutionRole(
            self,
            "ExecutionRole",
            description="What the endpoint's containers may touch",
            place=place,
            log_groups=self._log_groups,
            namespaces=["/aws/sagemaker/Endpoints", "/aws/sagemaker/InferenceComponents"],
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[place.models.bucket_arn])
        )
        role.add_to_policy(
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[place.models.arn_for_objects("*")])
        )
        accept_objects(role, [place.models], "A model is a folder of the one bucket, which is named.")
        return role

    @property
    def _log_groups(self) -> list[str]:
        """Where SageMaker writes what the containers say, in either hosting mode."""
        return [
            f"/aws/sagemaker/Endpoints/{self.endpoint_name}",
            f"/aws/sagemaker/InferenceComponents/{self.endpoint_name}-main",
        ]

    def _declare(self, spec: EndpointSpec, place: InferencePlace, functions: FunctionPlace) -> dict[str, Any]:
        """Return what functions read as `byollm.lifecycle.Deployment`; without defaults, to be short.

        A function's whole environment has 4 KB. The spec is text of its own, because the CDK leaves out what
        is null, and no host image is another thing than the default one.
        """
        return {
            "environment": self.environment_name,
            "name": self.endpoint_name,
            "role_arn": self.execution.role_arn,
            "package_group": self.endpoint_name,
            "spec": spec.model_dump_json(exclude_defaults=True),
            "kms_key_arn": place.key.key_arn,
            "subnets": [subnet.subnet_id for subnet in place.subnets],
            "security_groups": [place.group.security_group_id],
            "topic_arn": functions.alarms.topic_arn,
        }

    def _endpoint(self, resource: PlatformFunction, declared: str, functions: FunctionPlace) -> None:
        """Have CloudFormation call the reconciler; first of all when the stack is deleted."""
        endpoint = CustomResource(
            self,
            "Endpoint",
            resource_type="Custom::Endpoint",
            service_token=resource.function.function_arn,
            service_timeout=Duration.hours(1),
            properties={"Deployment": declared},  # a change of it is what CloudFormation calls for
        )
        endpoint.node.add_dependency(self.execution, self.reconciling)
        for id, name in zip(("EndpointLogs", "ComponentLogs"), self._log_groups, strict=True):
            # Made here, so that they are encrypted, expire, and go with the stack.
            logs = log_group(self, id, aws=functions.aws, key=functions.logs_key, name=name)
            endpoint.node.add_dependency(logs)

    def _alarms(self, spec: EndpointSpec, variant: str, functions: FunctionPlace) -> Iterator[str]:
        """Watch one variant as long as the stack stands; yield the names of the alarms.

        Alarms that send a new version back are the reconciler's: they come and go with a rollout.
        """
        env, watching, rollout = self.environment_name, functions.watching, spec.rollout
        failed = of_calls(env, spec, variant, "Invocation5XXErrors", "Average")
        scope = Construct(self, f"Guards-{variant}")  # by which a-b and ab are told apart
        for what, metric, above, description in (
            (
                "cpu",
                of_instances(env, variant, "CPUUtilization"),
                watching.cpu_percent * cores(spec.instance_type),
                f"CPU above {watching.cpu_percent} %",
            ),
            (
                "memory",
                of_instances(env, variant, "MemoryUtilization"),
                watching.memory_percent,
                f"Memory above {watching.memory_percent} %",
            ),
            (
                "errors",
                failed,
                rollout.error_percent / 100,
                f"More than {rollout.error_percent:g} % of calls fail",
            ),
            (
                "latency",
                of_calls(env, spec, variant, "ModelLatency", "Average"),
                rollout.latency_s * MICROSECONDS,
                f"The model takes more than {rollout.latency_s:g} s",
            ),
            ("health", failed, UNHEALTHY_PERCENT / 100, "Most calls fail: the endpoint is broken"),
        ):
            name = f"{guard_prefix(env)}{variant}-{what}"
            alarm(
                scope,
                what.capitalize(),
                name=name,
                description=f"{self.endpoint_name}, {variant}: {description}",
                metric=metric,
                above=above,
                topic=functions.alarms,
            )
            yield name


def guard_prefix(env: str) -> str:
    """Return what the names of the alarms that guard the endpoint begin with.

    Alarms named `byollm-<env>-endpoint-` are the reconciler's, which removes those it does not know.
    """
    return f"byollm-{env}-guard-"
