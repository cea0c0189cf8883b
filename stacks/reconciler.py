"""What the reconciler may do: make, change and remove the endpoint of this environment and nothing else."""

from aws_cdk import aws_iam as iam

from stacks.accepted import accept_wildcards
from stacks.base import PlatformStack
from stacks.execution import SAGEMAKER, Place

SCALING = "sagemaker.application-autoscaling.amazonaws.com"
SCALING_ROLE = f"aws-service-role/{SCALING}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
DIMENSIONS = (
    "sagemaker:variant:DesiredInstanceCount",
    "sagemaker:inference-component:DesiredCopyCount",
)


class ReconcilerPolicy(iam.ManagedPolicy):
    """The rights of the functions that change the endpoint.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html

    Args:
        stack: the stack it belongs to.
        execution: the role that the endpoint's containers run as.
        place: where they run.
    """

    def __init__(self, stack: PlatformStack, id: str, *, execution: iam.IRole, place: Place) -> None:
        endpoint = f"byollm-{stack.environment_name}"
        models = _arn(stack, "sagemaker", f"model/{endpoint}-*")
        owned = [
            _arn(stack, "sagemaker", f"endpoint/{endpoint}"),
            _arn(stack, "sagemaker", f"endpoint-config/{endpoint}-*"),
            _arn(stack, "sagemaker", f"inference-component/{endpoint}-main"),
            models,
        ]
        versions = [
            _arn(stack, "sagemaker", f"model-package-group/{endpoint}"),
            _arn(stack, "sagemaker", f"model-package/{endpoint}/*"),
        ]
        targets = _arn(stack, "application-autoscaling", "scalable-target/*")
        alarms = [
            _arn(stack, "cloudwatch", f"alarm:{name}")
            for name in (
                f"{endpoint}-endpoint-*",
                f"TargetTracking-endpoint/{endpoint}/*",
                f"TargetTracking-inference-component/{endpoint}-*",
            )
        ]
        every_alarm = _arn(stack, "cloudwatch", "alarm:*")
        super().__init__(
            stack,
            id,
            description="Make, change and remove the endpoint and what belongs to it",
            statements=[
                iam.PolicyStatement(
                    actions=[
                        f"sagemaker:{verb}{kind}"
                        for verb in ("Create", "Describe", "Delete")
                        for kind in ("Endpoint", "EndpointConfig", "InferenceComponent")
                    ]
                    + [
                        "sagemaker:DeleteModel",
                        "sagemaker:AddTags",
                        "sagemaker:ListTags",
                        "sagemaker:UpdateEndpoint",
                        "sagemaker:UpdateEndpointWeightsAndCapacities",
                        "sagemaker:UpdateInferenceComponent",
                        "sagemaker:UpdateInferenceComponentRuntimeConfig",
                    ],
                    resources=owned,
                ),
                # A model runs isolated and in the private network, or not at all.
                iam.PolicyStatement(
                    actions=["sagemaker:CreateModel"],
                    resources=[models],
                    conditions=place.isolated,
                ),
                iam.PolicyStatement(
                    actions=["sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages"],
                    resources=versions,
                ),
                # These name no resource: AWS knows none for them.
                iam.PolicyStatement(
                    actions=[
                        "application-autoscaling:DescribeScalableTargets",
                        "application-autoscaling:DescribeScalingPolicies",
                        "sagemaker:ListEndpointConfigs",
                        "sagemaker:ListInferenceComponents",
                        "sagemaker:ListModels",
                    ],
                    resources=["*"],
                ),
                iam.PolicyStatement(
                    actions=[
                        "application-autoscaling:DeleteScalingPolicy",
                        "application-autoscaling:DeregisterScalableTarget",
                        "application-autoscaling:PutScalingPolicy",
                        "application-autoscaling:RegisterScalableTarget",
                    ],
                    resources=[targets],
                    conditions={
                        "StringEquals": {
                            "application-autoscaling:service-namespace": "sagemaker",
                            "application-autoscaling:scalable-dimension": list(DIMENSIONS),
                        }
                    },
                ),
                iam.PolicyStatement(
                    actions=[
                        "cloudwatch:DeleteAlarms",
                        "cloudwatch:PutMetricAlarm",
                        "cloudwatch:TagResource",
                    ],
                    resources=alarms,
                ),
                # CloudWatch asks for this right over all alarms, however few are looked for.
                iam.PolicyStatement(actions=["cloudwatch:DescribeAlarms"], resources=[every_alarm]),
                iam.PolicyStatement(
                    actions=["iam:PassRole"],
                    resources=[execution.role_arn],
                    conditions={"StringEquals": {"iam:PassedToService": SAGEMAKER}},
                ),
                # The first scalable target of an account makes the role that scales all of them.
                iam.PolicyStatement(
                    actions=["iam:CreateServiceLinkedRole"],
                    resources=[f"arn:aws:iam::{stack.account}:role/{SCALING_ROLE}"],
                    conditions={"StringEquals": {"iam:AWSServiceName": SCALING}},
                ),
                # The disks of the endpoint's instances.
                iam.PolicyStatement(actions=["kms:DescribeKey"], resources=[place.key.key_arn]),
                iam.PolicyStatement(
                    actions=["kms:CreateGrant"],
                    resources=[place.key.key_arn],
                    conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
                ),
            ],
        )
        accept_wildcards(
            self,
            [owned[1], models, versions[1], *alarms],
            "What belongs to the endpoint is named as it is made, with this prefix.",
        )
        accept_wildcards(self, [every_alarm], "CloudWatch lists alarms to those who may see all of them.")
        accept_wildcards(
            self, [targets], "AWS names scalable targets by numbers; a condition narrows them to SageMaker's."
        )
        accept_wildcards(self, ["*"], "AWS knows no resource for listing what SageMaker and scaling have.")


def _arn(stack: PlatformStack, service: str, resource: str) -> str:
    return f"arn:aws:{service}:{stack.region}:{stack.account}:{resource}"
