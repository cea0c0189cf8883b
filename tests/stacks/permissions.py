"""Who may do what, and why: a table of every role and policy of the templates."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.stacks.support import resolved

REASONS = {
    "writes its own log": (
        "logs:CreateLogGroup logs:CreateLogStream logs:DescribeLogStreams logs:PutLogEvents"
    ),
    "what it touches is encrypted with the platform's key": (
        "kms:Decrypt kms:DescribeKey kms:Encrypt kms:GenerateDataKey"
    ),
    "the disks of its instances are encrypted; for AWS services only": "kms:CreateGrant",
    "pulls its image": (
        "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:DescribeImages ecr:DescribeRepositories "
        "ecr:GetDownloadUrlForLayer ecr:GetAuthorizationToken"
    ),
    "pushes images": ("ecr:CompleteLayerUpload ecr:InitiateLayerUpload ecr:PutImage ecr:UploadLayerPart"),
    "stands in the private network, by interfaces that AWS makes there for it": (
        "ec2:CreateNetworkInterface ec2:CreateNetworkInterfacePermission ec2:DeleteNetworkInterface "
        "ec2:DeleteNetworkInterfacePermission ec2:DescribeDhcpOptions ec2:DescribeNetworkInterfaces "
        "ec2:DescribeSecurityGroups ec2:DescribeSubnets ec2:DescribeVpcs"
    ),
    "SageMaker measures its instances, under SageMaker's names only": "cloudwatch:PutMetricData",
    "reads data, models or the source of a build": (
        "s3:GetObject s3:GetObjectVersion s3:ListBucket s3:GetBucketLocation s3:GetBucketVersioning"
    ),
    "writes checkpoints, results or a model": "s3:PutObject s3:DeleteObject s3:AbortMultipartUpload",
    "copies models to a further region": (
        "s3:GetReplicationConfiguration s3:GetObjectVersionForReplication s3:GetObjectVersionAcl "
        "s3:GetObjectVersionTagging s3:ReplicateObject s3:ReplicateTags"
    ),
    "what it cannot take in waits in its own dead-letter queue": "sqs:SendMessage",
    "is traced": (
        "xray:PutTelemetryRecords xray:PutTraceSegments xray:GetSamplingRules xray:GetSamplingTargets"
    ),
    "has its log delivered by CloudWatch": (
        "logs:CreateLogDelivery logs:DeleteLogDelivery logs:DescribeLogGroups logs:DescribeResourcePolicies "
        "logs:GetLogDelivery logs:ListLogDeliveries logs:PutResourcePolicy logs:UpdateLogDelivery"
    ),
    "calls functions: a release its steps, an endpoint's function itself to go on": "lambda:InvokeFunction",
    "tells people": "sns:Publish",
    "makes, changes and removes the endpoint and what belongs to it": (
        "sagemaker:CreateEndpoint sagemaker:CreateEndpointConfig "
        "sagemaker:CreateInferenceComponent sagemaker:CreateModel sagemaker:DeleteEndpoint "
        "sagemaker:DeleteEndpointConfig sagemaker:DeleteInferenceComponent sagemaker:DeleteModel "
        "sagemaker:DescribeEndpoint sagemaker:DescribeEndpointConfig sagemaker:DescribeInferenceComponent "
        "sagemaker:ListEndpointConfigs sagemaker:ListInferenceComponents sagemaker:ListModels "
        "sagemaker:UpdateEndpoint sagemaker:UpdateEndpointWeightsAndCapacities "
        "sagemaker:UpdateInferenceComponent sagemaker:UpdateInferenceComponentRuntimeConfig"
    ),
    "tags what it makes, by which it is found again": "sagemaker:AddTags sagemaker:ListTags",
    "scales the endpoint": (
        "application-autoscaling:DeleteScalingPolicy application-autoscaling:DeregisterScalableTarget "
        "application-autoscaling:DescribeScalableTargets application-autoscaling:DescribeScalingPolicies "
        "application-autoscaling:PutScalingPolicy application-autoscaling:RegisterScalableTarget "
        "iam:CreateServiceLinkedRole"
    ),
    "alarms send a bad version back, and wake an endpoint that sleeps": (
        "cloudwatch:DeleteAlarms cloudwatch:DescribeAlarms cloudwatch:PutMetricAlarm cloudwatch:TagResource"
    ),
    "hands one role to SageMaker, and to nobody else": "iam:PassRole",
    "knows the versions of the model": "sagemaker:DescribeModelPackage sagemaker:ListModelPackages",
    "registers a version, which then waits": "sagemaker:CreateModelPackage",
    "approves a version, or rejects it": "sagemaker:UpdateModelPackage",
    "asks the model": "sagemaker:InvokeEndpoint sagemaker:InvokeEndpointWithResponseStream",
    "starts a training job and follows it": (
        "sagemaker:CreateTrainingJob sagemaker:DescribeTrainingJob sagemaker:StopTrainingJob "
        "logs:GetLogEvents ssm:GetParameter"
    ),
    "deploys, as the roles that the CDK's bootstrap made": "sts:AssumeRole",
    "releases the model: finds the stacks, starts the state machine, follows it": (
        "cloudformation:DescribeStacks cloudformation:ListStackResources states:DescribeExecution "
        "states:GetExecutionHistory states:ListExecutions states:ListStateMachines states:StartExecution"
    ),
    "fetches the source of one repository": (
        "codeconnections:UseConnection codestar-connections:UseConnection"
    ),
    "starts the pipeline's builds": "codebuild:BatchGetBuilds codebuild:StartBuild",
    "is reached by Session Manager": (
        "ssm:UpdateInstanceInformation ssmmessages:CreateControlChannel ssmmessages:CreateDataChannel "
        "ssmmessages:OpenControlChannel ssmmessages:OpenDataChannel"
    ),
}
"""Why anything here may do something: the reason, and the actions it is for."""

WHY = {action: reason for reason, actions in REASONS.items() for action in actions.split()}


OWN = ("writes its own log", "what it cannot take in waits in its own dead-letter queue")
IMPORT = re.compile(
    r'\{"Fn::ImportValue": "byollm-(?:prod|whole)-([\w-]+):ExportsOutput(?:Ref|FnGetAtt)(\w+)"\}'
)
HASHES = re.compile(r"[0-9A-F]{8}(?:[A-Za-z]*[0-9A-F]{8})?$")
"""What the construct library adds to the name of a thing, and to that of its export."""


def permissions(templates: dict[str, Any]) -> str:
    """Return a table in Markdown: stack and role, actions, resources, reason; roles alike share a row."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for role in sorted(templates):
        for who, *row in _rows(role, templates[role]):
            may, on, reason = row
            alike.setdefault((reason, may, on), []).append(who)
    rows = (
        f"| {', '.join(who)} | {may} | {on} | {reason} |" for (reason, may, on), who in sorted(alike.items())
    )
    return "\n".join(["| who | may | on | because it |", "|---|---|---|---|", *rows])


def statements(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each statement of a template's policies for roles, with whom it is for."""
    for name, resource in sorted(template["Resources"].items()):
        if resource["Type"] in ("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"):
            given = resource["Properties"]
            who = _short(given["Roles"][0]["Ref"] if given.get("Roles") else name)
            for statement in given["PolicyDocument"]["Statement"]:
                yield who, statement


def actions(statement: dict[str, Any]) -> list[str]:
    """Return the actions of a statement, one or many."""
    given = statement["Action"]
    return [given] if isinstance(given, str) else list(given)


def _rows(role: str, template: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    found: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for who, statement in statements(template):
        places = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        limits = [key for test in statement.get("Condition", {}).values() for key in test]
        limited = f" if {', '.join(f'`{key}`' for key in dict.fromkeys(limits))}" if limits else ""
        for action in actions(statement):
            may, on = found.setdefault((who, WHY[action]), ({}, {}))
            may[f"`{action}`"] = None
            on.update({f"`{_place(each)}`{limited}": None for each in places})
    for (who, reason), (may, on) in found.items():
        yield f"{role}.{who}", ", ".join(may), "its own" if reason in OWN else ", ".join(on), reason


def _place(resource: Any) -> str:
    """Write an ARN without what all of them share; what has its name only later by ours, with its stack."""
    text = IMPORT.sub(lambda found: f'"{found[1]}.{_short(found[2])}"', json.dumps(resource))
    arn = resolved(json.loads(text))
    here = re.sub(r"known-at-deployment-(\w+)(?:\.\w+)?", lambda found: _short(found[1]), arn)
    return re.sub(r"^arn:aws:([\w-]+):[\w-]*:\d*:", r"\1: ", here).replace("123456789012", "ACCOUNT")


def _short(logical: str) -> str:
    return HASHES.sub("", logical)
