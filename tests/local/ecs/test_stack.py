"""CloudFormation makes services, waits for them, takes a failed change back, and removes all again."""

import json
from typing import Any

from tests.local import patient
from tests.local.ecs.conftest import IMAGE, Cluster
from tests.local.running import eventually

NAME = "services"


def template(subnets: list[str], vpc: str, **environment: str) -> str:
    """A service behind a load balancer."""
    container = {
        "Name": "app",
        "Image": IMAGE,
        "PortMappings": [{"ContainerPort": 8000}],
        "StopTimeout": 5,
        "Environment": [{"Name": name, "Value": value} for name, value in environment.items()],
    }
    place = {"ContainerName": "app", "ContainerPort": 8000, "TargetGroupArn": {"Ref": "Group"}}
    resources: dict[str, Any] = {
        "Cluster": ("ECS::Cluster", {}),
        "Balancer": ("ElasticLoadBalancingV2::LoadBalancer", {"Subnets": subnets}),
        "Group": (
            "ElasticLoadBalancingV2::TargetGroup",
            {
                "Port": 8000,
                "Protocol": "HTTP",
                "TargetType": "ip",
                "VpcId": vpc,
                "HealthCheckPath": "/health",
                "HealthCheckIntervalSeconds": 300,
            },
        ),
        "Listener": (
            "ElasticLoadBalancingV2::Listener",
            {
                "LoadBalancerArn": {"Ref": "Balancer"},
                "Port": 80,
                "Protocol": "HTTP",
                "DefaultActions": [{"Type": "forward", "TargetGroupArn": {"Ref": "Group"}}],
            },
        ),
        "Definition": (
            "ECS::TaskDefinition",
            {
                "Family": NAME,
                "RequiresCompatibilities": ["FARGATE"],
                "NetworkMode": "awsvpc",
                "Cpu": "256",
                "Memory": "512",
                "ContainerDefinitions": [container],
            },
        ),
        "Service": (
            "ECS::Service",
            {
                "Cluster": {"Ref": "Cluster"},
                "TaskDefinition": {"Ref": "Definition"},
                "LaunchType": "FARGATE",
                "DesiredCount": 1,
                "LoadBalancers": [place],
                "HealthCheckGracePeriodSeconds": 600,
                "DeploymentConfiguration": {
                    "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
                },
                "NetworkConfiguration": {"AwsvpcConfiguration": {"Subnets": subnets}},
            },
        ),
    }
    body = {name: {"Type": f"AWS::{kind}", "Properties": of} for name, (kind, of) in resources.items()}
    body["Service"]["DependsOn"] = "Listener"
    output = {"Value": {"Fn::Sub": "http://${Balancer.DNSName}"}}
    return json.dumps({"Resources": body, "Outputs": {"Address": output}})


def test_a_stack_waits_for_its_service_and_takes_a_failed_change_back(cluster: Cluster) -> None:
    subnets = cluster.network["awsvpcConfiguration"]["subnets"]
    vpc = cluster.platform.client("ec2").describe_subnets(SubnetIds=subnets)["Subnets"][0]["VpcId"]
    formation = cluster.platform.client("cloudformation")

    def stack() -> dict[str, Any]:
        found: dict[str, Any] = formation.describe_stacks(StackName=NAME)["Stacks"][0]
        return found

    def settled(status: str) -> str:
        """Wait for the end; return the reasons that the events of the stack give."""
        eventually(lambda: not stack()["StackStatus"].endswith("_IN_PROGRESS"), 120)
        events = formation.describe_stack_events(StackName=NAME)["StackEvents"]
        reasons = "\n".join(event.get("ResourceStatusReason", "") for event in events)
        assert stack()["StackStatus"] == status, reasons
        return reasons

    formation.create_stack(StackName=NAME, TemplateBody=template(subnets, vpc, VERSION="1"))
    settled("CREATE_COMPLETE")
    address = stack()["Outputs"][0]["OutputValue"]
    assert patient.get(address).text == "1"

    broken = template(subnets, vpc, VERSION="2", CRASH="1")
    formation.update_stack(StackName=NAME, TemplateBody=broken)
    assert "circuit breaker" in settled("UPDATE_ROLLBACK_COMPLETE")
    assert patient.get(address).text == "1"

    formation.update_stack(StackName=NAME, TemplateBody=template(subnets, vpc, VERSION="3"))
    settled("UPDATE_COMPLETE")
    assert patient.get(address).text == "3"

    def left() -> dict[str, Any]:
        found: dict[str, Any] = cluster.client.describe_clusters(clusters=[physical])["clusters"][0]
        return found

    resource = formation.describe_stack_resource(StackName=NAME, LogicalResourceId="Cluster")
    physical = resource["StackResourceDetail"]["PhysicalResourceId"]
    assert left()["activeServicesCount"] == 1
    formation.delete_stack(StackName=NAME)
    eventually(lambda: left()["status"] == "INACTIVE")
    assert left()["runningTasksCount"] == 0
