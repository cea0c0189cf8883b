"""The state machine of a release: its definition, what it calls, what it logs."""

import json
from collections.abc import Mapping

from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from stacks.accepted import accept_wildcards
from stacks.base import PlatformStack, on_behalf_of
from stacks.functions import REPOSITORY, FunctionPlace
from stacks.logs import log_group

DEFINITION = REPOSITORY / "pipeline" / "release.asl.json"


class ReleaseMachine(Construct):
    """The state machine `byollm-<env>-release` of `pipeline/release.asl.json`.

    Written out because the construct library's own changes the policy of the key, which stands in a stack
    that knows of no other.

    Args:
        stack: the stack it belongs to.
        functions: what it calls, by the names that the definition has for them.
        releases: the topic that it announces to.
        place: what it has in common with the functions.
    """

    def __init__(
        self,
        stack: PlatformStack,
        *,
        functions: Mapping[str, lambda_.Function],
        releases: sns.ITopic,
        place: FunctionPlace,
    ) -> None:
        super().__init__(stack, "Release")
        name = f"byollm-{stack.environment_name}-release"
        logs = log_group(
            stack,
            "ReleaseLogs",
            aws=place.aws,
            key=place.logs_key,
            # Under this prefix a log group needs no part of the account's one short resource policy.
            name=f"/aws/vendedlogs/states/{name}",
        )
        role = self._role(stack, list(functions.values()), releases, place)
        machine = stepfunctions.CfnStateMachine(
            self,
            "Machine",
            state_machine_name=name,
            role_arn=role.role_arn,
            # As text: in a mapping the construct library drops what is null, which here means something.
            definition_string=json.dumps(json.loads(DEFINITION.read_text()), separators=(",", ":")),
            definition_substitutions={
                **{name: function.function_arn for name, function in functions.items()},
                "Environment": stack.environment_name,
                "Releases": releases.topic_arn,
            },
            logging_configuration={
                "level": "ALL",
                "includeExecutionData": True,
                "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": logs.log_group_arn}}],
            },
            tracing_configuration={"enabled": True},
            encryption_configuration={
                "type": "CUSTOMER_MANAGED_KMS_KEY",
                "kmsKeyId": place.data_key.key_arn,
            },
        )
        machine.node.add_dependency(role)
        self.arn = machine.ref

    def _role(
        self,
        stack: PlatformStack,
        functions: list[lambda_.Function],
        releases: sns.ITopic,
        place: FunctionPlace,
    ) -> iam.Role:
        role = iam.Role(
            self,
            "Role",
            description="What a release calls",
            assumed_by=on_behalf_of(stack, "states.amazonaws.com"),
        )
        for actions, resources in (
            (["lambda:InvokeFunction"], [function.function_arn for function in functions]),
            (["sns:Publish"], [releases.topic_arn]),
            (["kms:Decrypt", "kms:GenerateDataKey"], [place.data_key.key_arn]),
            # https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
            (
                [
                    "logs:CreateLogDelivery",
                    "logs:DeleteLogDelivery",
                    "logs:DescribeLogGroups",
                    "logs:DescribeResourcePolicies",
                    "logs:GetLogDelivery",
                    "logs:ListLogDeliveries",
                    "logs:PutResourcePolicy",
                    "logs:UpdateLogDelivery",
                ],
                ["*"],
            ),
            # https://docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html
            (
                [
                    "xray:GetSamplingRules",
                    "xray:GetSamplingTargets",
                    "xray:PutTelemetryRecords",
                    "xray:PutTraceSegments",
                ],
                ["*"],
            ),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=actions, resources=resources))
        accept_wildcards(role, ["*"], "AWS knows no resource for delivering logs and for traces.")
        return role
