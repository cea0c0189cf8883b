"""Functions: one way to make every function of the platform, all of them from one bundle of its code."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aws_cdk import Duration, IgnoreMode
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from byollm.settings import AwsSettings, ObservabilitySettings
from stacks.accepted import accept, accept_wildcards
from stacks.alarms import alarm
from stacks.base import PlatformStack
from stacks.logs import log_group
from stacks.metrics import of_function, of_queue

REPOSITORY = Path(__file__).parents[1]

# Written as in .gitignore: everything is left out but these. What they import besides is in the layer.
ALL_BUT_THE_CODE = [
    "/*",
    "!/lambdas",
    "!/byollm",
    "/byollm/*",
    "!/byollm/__init__.py",
    "!/byollm/aws",
    "!/byollm/lifecycle",
    "!/byollm/settings",
    "__pycache__",
]

# Published by AWS in every region: Powertools with pydantic, pydantic-settings and the X-Ray SDK.
# https://docs.aws.amazon.com/powertools/python/latest/getting-started/install/
POWERTOOLS = "017000801446:layer:AWSLambdaPowertoolsPythonV3-python312-arm64:37"


@dataclass(frozen=True, kw_only=True)
class FunctionPlace:
    """What the functions of one environment have in common."""

    aws: AwsSettings
    watching: ObservabilitySettings
    data_key: kms.IKey
    logs_key: kms.IKey
    alarms: sns.ITopic


class PlatformFunction(Construct):
    """A function `byollm-<env>-<name>`, whose handler is `lambdas/<name>/handler.py`.

    It is traced, logs to a group of its own, runs at most so many times at once, and what it fails to take
    in waits in a queue of its own. Errors, throttling and a filling queue raise alarms.

    Args:
        stack: the stack it belongs to.
        name: of its folder under `lambdas`.
        description: what it does, for people.
        place: what it has in common with the others.
        deployment: the JSON that it reads as `BYOLLM_DEPLOYMENT`.
        statements: what its role may do beside running.
        policies: further policies of its role.
        timeout_s: how long one run may take.
        at_once: how many may run at the same time.
    """

    def __init__(
        self,
        stack: PlatformStack,
        name: str,
        *,
        description: str,
        place: FunctionPlace,
        deployment: str,
        statements: Sequence[iam.PolicyStatement] = (),
        policies: Sequence[iam.IManagedPolicy] = (),
        timeout_s: int = 300,
        at_once: int = 1,
    ) -> None:
        super().__init__(stack, name.title().replace("_", ""))
        self.name = f"byollm-{stack.environment_name}-{name}"
        self.arn = f"arn:aws:lambda:{stack.region}:{stack.account}:function:{self.name}"
        logs = log_group(
            stack,
            f"{self.node.id}Logs",
            aws=place.aws,
            key=place.logs_key,
            name=f"/aws/lambda/{self.name}",
        )
        dead_letters = self._dead_letters(place)
        role = iam.Role(
            self,
            "Role",
            description=f"What the function {name} may do",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            managed_policies=list(policies),
        )
        logs.grant(role, "logs:CreateLogStream", "logs:PutLogEvents")
        # Its own environment, and the encrypted topics and queues it sends to.
        role.add_to_policy(
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[place.data_key.key_arn]
            )
        )
        for statement in statements:
            role.add_to_policy(statement)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=self.name,
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_12,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"lambdas.{name}.handler.handle",
            code=lambda_.Code.from_asset(
                str(REPOSITORY), exclude=ALL_BUT_THE_CODE, ignore_mode=IgnoreMode.GIT
            ),
            layers=[
                lambda_.LayerVersion.from_layer_version_arn(
                    self, "Powertools", f"arn:aws:lambda:{stack.region}:{POWERTOOLS}"
                )
            ],
            memory_size=512,
            timeout=Duration.seconds(timeout_s),
            reserved_concurrent_executions=at_once,
            environment={
                "BYOLLM_DEPLOYMENT": deployment,
                "POWERTOOLS_METRICS_NAMESPACE": "byollm",
                "POWERTOOLS_SERVICE_NAME": self.name,
            },
            environment_encryption=place.data_key,
            role=role,
            tracing=lambda_.Tracing.ACTIVE,
            dead_letter_queue=dead_letters,
            log_group=logs,
        )
        accept_wildcards(role, ["*"], "AWS knows no resource for sending traces.")
        accept(self, {"AwsSolutions-L1": "Python 3.12 is mended until 2028; the layer is made for it."})
        self._alarms(place)

    def _dead_letters(self, place: FunctionPlace) -> sqs.Queue:
        queue = sqs.Queue(
            self,
            "DeadLetters",
            queue_name=f"{self.name}-dead",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=place.data_key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        accept(queue, {"AwsSolutions-SQS3": "It is the dead-letter queue of a function."})
        return queue

    def _alarms(self, place: FunctionPlace) -> None:
        alarm(
            self,
            "Errors",
            name=f"{self.name}-errors",
            description=f"{self.name} fails: its log group says why",
            metric=of_function(self.name, "Errors"),
            above=0,
            minutes=1,
            topic=place.alarms,
        )
        alarm(
            self,
            "Throttles",
            name=f"{self.name}-throttles",
            description=f"{self.name} is called more often at once than it may run",
            metric=of_function(self.name, "Throttles"),
            above=0,
            topic=place.alarms,
        )
        alarm(
            self,
            "Undelivered",
            name=f"{self.name}-undelivered",
            description=f"{self.name} has not taken in the events that wait in {self.name}-dead",
            metric=of_queue(f"{self.name}-dead"),
            above=place.watching.queue_depth,
            minutes=1,
            topic=place.alarms,
        )
