"""What stands all month, read from the templates: each type of resource that is paid by the hour or month.

Everything else in them is free, or paid by use: `load` counts what of that matters.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from byollm.costs.line import HOURS
from byollm.costs.table import Template

Resource = dict[str, Any]
Count = tuple[str, float, str]
"""The item of the table, how many of its unit a month, and how that comes about."""


def standing(template: Template) -> Iterator[Count]:
    """Yield what the resources of one template cost while nobody asks."""
    resources: dict[str, Resource] = template["Resources"]
    for name, resource in resources.items():
        count = COUNTED.get(resource["Type"])
        if count is not None:
            yield from count(name, resource.get("Properties", {}), resources)


def _hours(item: str) -> Callable[..., Iterator[Count]]:
    def count(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
        yield item, HOURS, f"1 x {HOURS} h"

    return count


def _months(item: str) -> Callable[..., Iterator[Count]]:
    def count(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
        yield item, 1, "1"

    return count


def _endpoint(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
    """An interface endpoint is paid in each subnet; a gateway endpoint is free."""
    if properties.get("VpcEndpointType") == "Interface":
        zones = len(properties["SubnetIds"])
        yield "interface endpoint", zones * HOURS, f"{zones} zones x {HOURS} h"


def _balancer(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
    yield "load balancer", HOURS, f"1 x {HOURS} h"
    if properties.get("Scheme") == "internet-facing":
        zones = len(properties["Subnets"])
        yield "public IPv4 address", zones * HOURS, f"{zones} zones x {HOURS} h"


def _alarm(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
    """An alarm is paid by the metrics that it reads."""
    metrics = sum("MetricStat" in query for query in properties.get("Metrics", ())) or 1
    yield "alarm", metrics, f"{metrics} metrics" if metrics > 1 else "1"


def _firewall(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
    rules = len(properties["Rules"])
    yield "firewall", 1, "1"
    yield "firewall rule", rules, f"{rules} rules"


def _service(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
    """The fewest tasks that scaling keeps, each as large as its definition says."""
    definition = resources[properties["TaskDefinition"]["Ref"]]["Properties"]
    tasks = next(
        each["Properties"]["MinCapacity"]
        for each in resources.values()
        if each["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget"
        and f'"{name}"' in json.dumps(each["Properties"]["ResourceId"])
    )
    cpus, gib = int(definition["Cpu"]) / 1024, int(definition["Memory"]) / 1024
    yield "Fargate vCPU", tasks * cpus * HOURS, f"{tasks} x {cpus:g} vCPU x {HOURS} h"
    yield "Fargate GB", tasks * gib * HOURS, f"{tasks} x {gib:g} GB x {HOURS} h"


def _instances(name: str, properties: Resource, resources: dict[str, Resource]) -> Iterator[Count]:
    template = resources[properties["LaunchTemplate"]["LaunchTemplateId"]["Ref"]]["Properties"]
    data, fewest = template["LaunchTemplateData"], int(properties["MinSize"])
    yield f"EC2 {data['InstanceType']}", fewest * HOURS, f"{fewest} x {HOURS} h"
    disks = sum(disk["Ebs"]["VolumeSize"] for disk in data.get("BlockDeviceMappings", ()))
    yield "EBS gp3", fewest * disks, f"{fewest} x {disks} GB"


COUNTED: dict[str, Callable[[str, Resource, dict[str, Resource]], Iterator[Count]]] = {
    "AWS::AutoScaling::AutoScalingGroup": _instances,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::Dashboard": _months("dashboard"),
    "AWS::EC2::EIP": _hours("public IPv4 address"),
    "AWS::EC2::NatGateway": _hours("NAT gateway"),
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::ECS::Service": _service,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _balancer,
    "AWS::KMS::Key": _months("encryption key"),
    "AWS::WAFv2::WebACL": _firewall,
}
