"""Three kinds of subnets in every zone, endpoints where asked for, and only the ports that are named."""

from typing import Any

import pytest

from byollm.settings import NetworkSettings, load_settings
from tests.stacks.support import Synthesis, synthesise

ANYWHERE = "0.0.0.0/0"
ROLES = {"LoadBalancer", "Gateway", "Frontend", "Inference", "Training", "Endpoints"}


def group(reference: Any) -> str:
    """Name the role of the security group that a template refers to."""
    name: str = reference["Fn::GetAtt"][0]
    return next(role for role in ROLES if name.startswith(f"{role}Group"))


def ingress(synthesis: Synthesis) -> set[tuple[str, str, int]]:
    """Every way in, as (from, to, port)."""
    ways = []
    for rule in synthesis.of("network", "AWS::EC2::SecurityGroupIngress").values():
        assert rule["FromPort"] == rule["ToPort"]
        assert rule["IpProtocol"] == "tcp"
        ways.append((group(rule["SourceSecurityGroupId"]), group(rule["GroupId"]), rule["FromPort"]))
    assert len(ways) == len(set(ways)), "EC2 refuses the same rule twice"
    return set(ways)


def test_each_zone_has_every_kind_of_subnet(synthesis: Synthesis) -> None:
    subnets = [
        (
            subnet["AvailabilityZone"],
            next(tag["Value"] for tag in subnet["Tags"] if "subnet-name" in tag["Key"]),
        )
        for subnet in synthesis.of("network", "AWS::EC2::Subnet").values()
    ]
    zones = ("ca-central-1a", "ca-central-1b")
    assert sorted(subnets) == [(zone, kind) for zone in zones for kind in ("isolated", "private", "public")]


def test_no_subnet_gives_out_public_addresses(synthesis: Synthesis) -> None:
    for name, subnet in synthesis.of("network", "AWS::EC2::Subnet").items():
        assert subnet["MapPublicIpOnLaunch"] is False, name


def test_dev_has_one_way_out_and_prod_one_a_zone(dev: Synthesis, prod: Synthesis) -> None:
    assert len(dev.of("network", "AWS::EC2::NatGateway")) == 1
    assert len(prod.of("network", "AWS::EC2::NatGateway")) == 2


def test_isolated_subnets_have_no_way_out(synthesis: Synthesis) -> None:
    for name in synthesis.of("network", "AWS::EC2::Route"):
        assert "isolated" not in name


def test_s3_and_dynamodb_are_reached_without_nat(synthesis: Synthesis) -> None:
    endpoints = synthesis.of("network", "AWS::EC2::VPCEndpoint").values()
    gateways = {
        endpoint["ServiceName"]["Fn::Join"][1][-1]: len(endpoint["RouteTableIds"])
        for endpoint in endpoints
        if endpoint["VpcEndpointType"] == "Gateway"
    }
    assert gateways == {".s3": 6, ".dynamodb": 6}  # from every subnet


def test_prod_reaches_the_services_it_calls_from_inside(dev: Synthesis, prod: Synthesis) -> None:
    def services(synthesis: Synthesis) -> set[str]:
        endpoints = synthesis.of("network", "AWS::EC2::VPCEndpoint").values()
        inside = [endpoint for endpoint in endpoints if endpoint["VpcEndpointType"] == "Interface"]
        assert all(len(endpoint["SubnetIds"]) == 2 for endpoint in inside)
        assert all(endpoint["PrivateDnsEnabled"] for endpoint in inside)
        return {endpoint["ServiceName"].removeprefix("com.amazonaws.ca-central-1.") for endpoint in inside}

    sagemaker = {"sagemaker.api", "sagemaker.runtime"}
    assert services(prod) == sagemaker | {"ecr.api", "ecr.dkr", "logs", "secretsmanager", "ssm", "sts"}
    assert services(dev) == set()


def test_each_role_is_reached_only_along_its_flows(dev: Synthesis, prod: Synthesis) -> None:
    flows = {
        ("LoadBalancer", "Gateway", 8000),
        ("LoadBalancer", "Frontend", 7860),
        ("Frontend", "Gateway", 8000),
    }
    callers = {"Gateway", "Frontend", "Inference", "Training"}
    assert ingress(dev) == flows
    assert ingress(prod) == flows | {(caller, "Endpoints", 443) for caller in callers}


def test_nothing_may_call_out_but_over_https_or_along_a_flow(synthesis: Synthesis) -> None:
    for name, properties in synthesis.of("network", "AWS::EC2::SecurityGroup").items():
        assert "SecurityGroupIngress" not in properties, name
        # A group without rules of its own has those of the flows below, which replace EC2's default.
        for rule in properties.get("SecurityGroupEgress", []):
            forbids_all = rule["CidrIp"] == "255.255.255.255/32"
            assert forbids_all or (rule["CidrIp"], rule["FromPort"], rule["ToPort"]) == (ANYWHERE, 443, 443)
    flows = synthesis.of("network", "AWS::EC2::SecurityGroupEgress").values()
    outward = {(group(flow["GroupId"]), group(flow["DestinationSecurityGroupId"])) for flow in flows}
    along = {("LoadBalancer", "Gateway"), ("LoadBalancer", "Frontend"), ("Frontend", "Gateway")}
    # The way to the interface endpoints is part of "anywhere over HTTPS".
    assert outward - along <= {(role, "Endpoints") for role in ROLES}


def test_every_connection_is_recorded(synthesis: Synthesis) -> None:
    (flow_log,) = synthesis.of("network", "AWS::EC2::FlowLog").values()
    ((name, group),) = synthesis.of("network", "AWS::Logs::LogGroup").items()
    assert flow_log["TrafficType"] == "ALL"
    assert flow_log["LogGroupName"] == {"Ref": name}
    assert group["RetentionInDays"] == load_settings(synthesis.env).aws.log_days
    assert "Logs" in str(group["KmsKeyId"])


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """A network with no way to the internet, in three zones."""
    network = NetworkSettings(
        nat_gateways=0,
        interface_endpoints=True,
        zones=("ca-central-1a", "ca-central-1b", "ca-central-1d"),
        gateway_port=9000,
    )
    settings = load_settings("dev").model_copy(update={"network": network})
    return synthesise("dev", tmp_path_factory.mktemp("sealed"), settings)


def test_a_sealed_network_has_no_way_out(sealed: Synthesis) -> None:
    assert sealed.of("network", "AWS::EC2::NatGateway") == {}
    outward = [name for name in sealed.of("network", "AWS::EC2::Route") if "public" not in name]
    assert outward == []
    assert len(sealed.of("network", "AWS::EC2::Subnet")) == 9


def test_ports_follow_the_settings(sealed: Synthesis) -> None:
    assert ("LoadBalancer", "Gateway", 9000) in ingress(sealed)
