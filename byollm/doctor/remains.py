"""What there is of an environment in AWS, found by its names and its tag: after a removal, what is left."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from byollm.aws import listed, one
from byollm.doctor.patient import Patient

TAG = "byollm:environment"


@dataclass(frozen=True, order=True)
class Remains:
    """One thing of an environment.

    Args:
        kind: what it is, such as `log group`.
        name: its name, or its ARN where it was found by its tag.
        region: where it stands.
        ending: why it is no fault that it is there still: AWS removes it by itself.
    """

    kind: str
    name: str
    region: str
    ending: str = ""


@dataclass(frozen=True)
class Sweep:
    """A list of AWS that is searched for names of the environment.

    Args:
        kind: what it lists.
        service: boto3's name of the service.
        operation: what lists it.
        key: the member of the answer that is the list.
        name: the member of each entry that is its name; empty where entries are names.
        given: arguments of the operation.
    """

    kind: str
    service: str
    operation: str
    key: str
    name: str = ""
    given: dict[str, str] = field(default_factory=dict)

    def find(self, patient: Patient, region: str) -> Iterator[Remains]:
        """Yield what it lists of the environment."""
        for entry in listed(patient.client(self.service, region), self.operation, self.key, **self.given):
            name = entry[self.name] if self.name else entry
            if _is_ours(name, patient.env):
                yield Remains(self.kind, name, region)


def _sagemaker(kind: str, operation: str, key: str, name: str) -> Sweep:
    return Sweep(kind, "sagemaker", operation, key, name)


def _scaling(namespace: str) -> Sweep:
    given = {"ServiceNamespace": namespace}
    operation = "describe_scalable_targets"
    return Sweep(
        "scaling target", "application-autoscaling", operation, "ScalableTargets", "ResourceId", given
    )


SWEEPS = (
    _sagemaker(
        "inference component",
        "list_inference_components",
        "InferenceComponents",
        "InferenceComponentName",
    ),
    _sagemaker("endpoint", "list_endpoints", "Endpoints", "EndpointName"),
    _sagemaker("endpoint configuration", "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
    _sagemaker("model", "list_models", "Models", "ModelName"),
    _sagemaker(
        "model package group",
        "list_model_package_groups",
        "ModelPackageGroupSummaryList",
        "ModelPackageGroupName",
    ),
    _scaling("sagemaker"),
    _scaling("ecs"),
    Sweep("alarm", "cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    Sweep("log group", "logs", "describe_log_groups", "logGroups", "logGroupName"),
    Sweep("image repository", "ecr", "describe_repositories", "repositories", "repositoryName"),
    Sweep("bucket", "s3", "list_buckets", "Buckets", "Name"),
    Sweep("table", "dynamodb", "list_tables", "TableNames"),
    Sweep("function", "lambda", "list_functions", "Functions", "FunctionName"),
    Sweep("state machine", "stepfunctions", "list_state_machines", "stateMachines", "name"),
    Sweep("key alias", "kms", "list_aliases", "Aliases", "AliasName"),
    Sweep("role", "iam", "list_roles", "Roles", "RoleName"),
    Sweep("stack", "cloudformation", "describe_stacks", "Stacks", "StackName"),
)
SWEPT = (
    "cloudformation:stack/",
    "cloudwatch:alarm:",
    "dynamodb:table/",
    "ecr:repository/",
    "lambda:function:",
    "logs:log-group:",
    "s3:",
    "sagemaker:endpoint",  # configurations, too
    "sagemaker:inference-component/",
    "sagemaker:model/",
    "sagemaker:model-package-group/",
    "states:stateMachine:",
)
"""How what is in those lists begins in an ARN."""

IN_COPIES = ("key alias", "stack")
"""What stands in the regions of copies as well; buckets of all regions are in one list."""


def remains(patient: Patient) -> list[Remains]:
    """List all there is of an environment, in the order of kinds and names."""
    home = patient.settings.aws.region
    found: set[Remains] = set(_interfaces(patient))
    for region in patient.regions:
        for sweep in SWEEPS:
            if region == home or sweep.kind in IN_COPIES:
                found.update(sweep.find(patient, region))
        found.update(_tagged(patient, region))
    return sorted(found)


def _is_ours(name: str, env: str) -> bool:
    """Whether a name is one of the environment: `byollm-dev`, `byollm-dev-…`, or one of them in a path."""
    if name.startswith("alias/"):
        return name.startswith(f"alias/byollm/{env}/")
    mark = f"byollm-{env}"
    return any(part == mark or part.startswith(f"{mark}-") for part in re.split("[:/]", name))


def _tagged(patient: Patient, region: str) -> Iterator[Remains]:
    """Yield what carries the environment's tag and has a name that no list is searched for.

    The index of tags is minutes behind, so for what is in a list, the list is right.
    """
    found = listed(
        patient.client("resourcegroupstaggingapi", region),
        "get_resources",
        "ResourceTagMappingList",
        TagFilters=[{"Key": TAG, "Values": [patient.env]}],
    )
    for entry in found:
        arn = entry["ResourceARN"]
        service, resource = arn.split(":", 5)[2], arn.split(":", 5)[5]
        if not (f"{service}:{resource}".startswith(SWEPT) and _is_ours(resource, patient.env)):
            yield Remains(service, arn, region, _ending(patient, region, service, resource))


def _ending(patient: Patient, region: str, service: str, resource: str) -> str:
    """Say what AWS is about to remove by itself; nothing where it is not."""
    if service == "kms":
        key = patient.client("kms", region).describe_key(KeyId=resource.partition("/")[2])["KeyMetadata"]
        if key["KeyState"] == "PendingDeletion":
            return f"AWS deletes it on {key['DeletionDate']:%Y-%m-%d}"
    if service == "ec2" and resource.startswith("natgateway/"):
        ec2, name = patient.client("ec2", region), resource.partition("/")[2]
        answer: Any = one(ec2.describe_nat_gateways, NatGatewayIds=[name]) or {"NatGateways": []}
        if all(gateway["State"] == "deleted" for gateway in answer["NatGateways"]):
            return "deleted; AWS shows it for an hour"
    return ""


def _interfaces(patient: Patient) -> Iterator[Remains]:
    """Yield network interfaces that keep the environment's security groups from being removed."""
    region = patient.settings.aws.region
    groups = [{"Name": "group-name", "Values": [f"byollm-{patient.env}-*"]}]
    for each in listed(
        patient.client("ec2"), "describe_network_interfaces", "NetworkInterfaces", Filters=groups
    ):
        yield Remains("network interface", each["NetworkInterfaceId"], region)
