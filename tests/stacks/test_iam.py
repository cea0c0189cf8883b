"""No role may do everything, touch everything, or hand on a role that is not named."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.stacks.support import Synthesis

Statement = dict[str, Any]

# Actions for which AWS knows no resource.
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
WITHOUT_RESOURCE = {
    "application-autoscaling:DescribeScalableTargets",
    "application-autoscaling:DescribeScalingPolicies",
    "cloudwatch:PutMetricData",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecr:GetAuthorizationToken",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "sagemaker:ListEndpointConfigs",
    "sagemaker:ListEndpoints",
    "sagemaker:ListInferenceComponents",
    "sagemaker:ListModels",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "states:ListStateMachines",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(synthesis: Synthesis) -> Iterator[tuple[str, Statement]]:
    """Every statement of every role, with where it stands."""
    for role, name, resource in synthesis.resources(
        "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"
    ):
        properties = resource["Properties"]
        documents = [properties.get("PolicyDocument")]
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in filter(None, documents):
            for statement in document["Statement"]:
                yield f"{role}/{name}", statement


def faults(statement: Statement) -> list[str]:
    """Say what is too wide in a statement."""
    if statement["Effect"] == "Deny":
        return []
    if "NotAction" in statement or "NotResource" in statement:
        return ["allows everything but what it names"]
    found = []
    actions, resources = as_list(statement["Action"]), as_list(statement["Resource"])
    for action in actions:
        if action.split(":")[-1] == "*":
            found.append(f"action {action}")
    if "*" in resources:
        found += [f"any resource, for {action}" for action in actions if action not in WITHOUT_RESOURCE]
    if "iam:PassRole" in actions:
        if actions != ["iam:PassRole"]:
            found.append("passes a role on among other rights")
        found += [f"passes on {resource}" for resource in resources if "*" in str(resource)]
        if "iam:PassedToService" not in str(statement.get("Condition")):
            found.append("passes a role on to any service")
    return found


def test_no_statement_is_too_wide(any_synthesis: Synthesis) -> None:
    found = [(where, fault) for where, statement in statements(any_synthesis) for fault in faults(statement)]
    assert found == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ({"Action": "*", "Resource": "arn:a"}, "action *"),
        ({"Action": ["s3:GetObject", "s3:*"], "Resource": "arn:a"}, "action s3:*"),
        ({"Action": "s3:GetObject", "Resource": "*"}, "any resource, for s3:GetObject"),
        ({"Action": "s3:GetObject", "Resource": ["arn:a", "*"]}, "any resource, for s3:GetObject"),
        ({"Action": ["ecr:GetAuthorizationToken", "ecr:PutImage"], "Resource": "*"}, "for ecr:PutImage"),
        ({"NotAction": "iam:*", "Resource": "arn:a"}, "allows everything but what it names"),
        ({"Action": "iam:PassRole", "Resource": "arn:aws:iam::1:role/*"}, "passes on arn:aws:iam::1:role/*"),
        ({"Action": "iam:PassRole", "Resource": "arn:a"}, "passes a role on to any service"),
    ],
)
def test_what_is_too_wide_is_found(statement: Statement, fault: str) -> None:
    assert any(fault in found for found in faults({"Effect": "Allow", **statement}))


def test_a_role_is_taken_on_by_services_only(any_synthesis: Synthesis) -> None:
    for role, name, resource in any_synthesis.resources("AWS::IAM::Role"):
        for statement in resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]:
            assert set(statement["Principal"]) == {"Service"}, f"{role}/{name}"


def test_no_policy_opens_a_resource_to_everyone(any_synthesis: Synthesis) -> None:
    for role, name, resource in any_synthesis.resources():
        for key in ("PolicyDocument", "KeyPolicy", "RepositoryPolicyText"):
            document = resource.get("Properties", {}).get(key) or {}
            for statement in document.get("Statement", []):
                if statement["Effect"] == "Allow":
                    assert statement.get("Principal") not in ("*", {"AWS": "*"}), f"{role}/{name}"
