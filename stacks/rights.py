"""What the pipeline's builds may do beyond reading the source and writing logs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

QUALIFIER = "hnb659fds"  # of the CDK's bootstrap stack, unless one chooses another


@dataclass(frozen=True)
class Rights:
    """Statements of a policy, and why each wildcard among their resources is right."""

    statements: Sequence[iam.PolicyStatement] = ()
    wildcards: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: "Rights") -> "Rights":
        return Rights([*self.statements, *other.statements], self.wildcards | other.wildcards)


def registry(*, pulled: Sequence[str] = (), pushed: Sequence[str] = ()) -> Rights:
    """Return what it takes to pull from and to push to repositories, given by ARN."""
    token = iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"])
    read = iam.PolicyStatement(
        actions=[
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:DescribeImages",
            "ecr:GetDownloadUrlForLayer",
        ],
        resources=[*pulled, *pushed],
    )
    write = iam.PolicyStatement(
        actions=[
            "ecr:CompleteLayerUpload",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart",
        ],
        resources=list(pushed),
    )
    reason = "AWS knows no resource for the registry's token."
    return Rights([token, read, write] if pushed else [token, read], {"*": reason})


def deploying(stack: Stack, regions: Iterable[str]) -> Rights:
    """Return what `cdk deploy` does in this account.

    The CDK's bootstrap made two roles for it: one hands templates to CloudFormation, one uploads them. What
    may be deployed is decided there (https://docs.aws.amazon.com/cdk/v2/guide/bootstrapping-env.html).
    """
    roles = [
        f"arn:aws:iam::{stack.account}:role/cdk-{QUALIFIER}-{role}-role-{stack.account}-{region}"
        for region in regions
        for role in ("deploy", "file-publishing")
    ]
    return Rights([iam.PolicyStatement(actions=["sts:AssumeRole"], resources=roles)])


def releasing(stack: Stack, env: str) -> Rights:
    """Return what `byollm publish` does: find the bucket, upload the model, start the release, follow it."""
    here = f"{stack.region}:{stack.account}"
    bucket = f"arn:aws:s3:::byollm-{env}-storage-models*"
    stacks = f"arn:aws:cloudformation:{here}:stack/*"
    keys = f"arn:aws:kms:{here}:key/*"
    machine = f"arn:aws:states:{here}:stateMachine:byollm-{env}-release"
    executions = f"arn:aws:states:{here}:execution:byollm-{env}-release:*"
    by_prefix = "CloudFormation chooses the end of the name; it begins with the environment's."
    return Rights(
        [
            iam.PolicyStatement(
                actions=["cloudformation:DescribeStacks", "cloudformation:ListStackResources"],
                resources=[stacks],
            ),
            iam.PolicyStatement(
                actions=["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListBucket", "s3:PutObject"],
                resources=[bucket, f"{bucket}/*"],
            ),
            iam.PolicyStatement(
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                # The key's id is known only where it is made; its alias names it.
                resources=[keys],
                conditions={"ForAnyValue:StringEquals": {"kms:ResourceAliases": f"alias/byollm/{env}/data"}},
            ),
            iam.PolicyStatement(
                actions=["ecr:BatchGetImage", "ecr:DescribeRepositories"],
                resources=[f"arn:aws:ecr:{here}:repository/byollm-{env}/inference"],
            ),
            iam.PolicyStatement(actions=["states:ListStateMachines"], resources=["*"]),
            iam.PolicyStatement(
                actions=["states:ListExecutions", "states:StartExecution"], resources=[machine]
            ),
            iam.PolicyStatement(
                actions=["states:DescribeExecution", "states:GetExecutionHistory"], resources=[executions]
            ),
        ],
        {
            stacks: "It asks which stacks there are, and changes none.",
            bucket: by_prefix,
            f"{bucket}/*": by_prefix,
            keys: "A condition narrows it to the key that has the environment's alias.",
            executions: "Releases are named when they start.",
            "*": "AWS knows no resource for listing state machines.",
        },
    )
