"""What SageMaker needs to run a container of ours: on whose behalf, its image, its network, its key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from stacks.accepted import accept_wildcards
from stacks.base import PlatformStack, on_behalf_of

SAGEMAKER = "sagemaker.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where containers run: their subnets, who may talk to them, the key of their disks, their image."""

    subnets: Sequence[ec2.ISubnet]
    group: ec2.ISecurityGroup
    key: kms.IKey
    repository: ecr.IRepository

    @property
    def isolated(self) -> dict[str, Any]:
        """Conditions under which a model or a job may be made: isolated, in these subnets.

        https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
        """
        return {
            "Bool": {"sagemaker:NetworkIsolation": "true"},
            "ForAllValues:StringEquals": {
                "sagemaker:VpcSubnets": [subnet.subnet_id for subnet in self.subnets],
                "sagemaker:VpcSecurityGroupIds": [self.group.security_group_id],
            },
            # An absent list would satisfy the condition above.
            "Null": {"sagemaker:VpcSubnets": "false", "sagemaker:VpcSecurityGroupIds": "false"},
        }


class ExecutionRole(iam.Role):
    """A role that SageMaker takes on to run containers, for this account only.

    https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html

    Args:
        stack: the stack it belongs to.
        id: its name in the stack.
        description: what the containers are, for people.
        place: where they run.
        log_groups: names of the log groups that they write to.
        namespaces: what SageMaker publishes their metrics under.
    """

    def __init__(
        self,
        stack: PlatformStack,
        id: str,
        *,
        description: str,
        place: Place,
        log_groups: Sequence[str],
        namespaces: Sequence[str],
    ) -> None:
        super().__init__(
            stack,
            id,
            description=description,
            assumed_by=on_behalf_of(stack, SAGEMAKER),
        )
        groups = [f"arn:aws:logs:{stack.region}:{stack.account}:log-group:{name}" for name in log_groups]
        streams = [f"{group}:*" for group in groups]
        subnets = [_ec2(stack, f"subnet/{subnet.subnet_id}") for subnet in place.subnets]
        interfaces = _ec2(stack, "network-interface/*")
        for statement in (
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"],
                resources=[place.key.key_arn],
            ),
            # The disks of its instances.
            iam.PolicyStatement(
                actions=["kms:CreateGrant"],
                resources=[place.key.key_arn],
                conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
            ),
            iam.PolicyStatement(
                actions=[
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                ],
                resources=[place.repository.repository_arn],
            ),
            iam.PolicyStatement(
                actions=["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
                resources=[*groups, *streams],
            ),
            # Its place in the private network.
            iam.PolicyStatement(
                actions=["ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission"],
                resources=[
                    *subnets,
                    _ec2(stack, f"security-group/{place.group.security_group_id}"),
                    interfaces,
                ],
            ),
            iam.PolicyStatement(
                actions=["ec2:DeleteNetworkInterface", "ec2:DeleteNetworkInterfacePermission"],
                resources=[interfaces],
                conditions={"ArnEquals": {"ec2:Subnet": subnets}},
            ),
            # These name no resource: AWS knows none for them.
            iam.PolicyStatement(
                actions=[
                    "ec2:DescribeDhcpOptions",
                    "ec2:DescribeNetworkInterfaces",
                    "ec2:DescribeSecurityGroups",
                    "ec2:DescribeSubnets",
                    "ec2:DescribeVpcs",
                    "ecr:GetAuthorizationToken",
                ],
                resources=["*"],
            ),
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringEquals": {"cloudwatch:namespace": list(namespaces)}},
            ),
        ):
            self.add_to_policy(statement)
        accept_wildcards(
            self,
            [interfaces, *streams],
            "SageMaker makes interfaces and log streams and names them; their subnets and group are named.",
        )
        accept_wildcards(
            self,
            ["*"],
            "AWS knows no resource for describing networks, for the registry's token and for metrics.",
        )


def _ec2(stack: PlatformStack, resource: str) -> str:
    return f"arn:aws:ec2:{stack.region}:{stack.account}:{resource}"
