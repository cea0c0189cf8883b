"""The private network: its zones and addresses, and how what runs inside reaches AWS."""

from ipaddress import IPv4Network
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from byollm.settings.base import Section

Zone = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$")]
Port = Annotated[int, Field(ge=1024, le=65535)]  # containers run without the right to lower ones


class NetworkSettings(Section):
    """The private network."""

    zones: Annotated[tuple[Zone, ...], Field(min_length=2, max_length=3)] = ("ca-central-1a", "ca-central-1b")
    """Availability zones, at least two: what the load balancer needs, and what survives the loss of one."""
    cidr: str = "10.20.0.0/16"
    """Addresses of the network, between /16 and /20; each zone gets three subnets of 256."""
    nat_gateways: Annotated[int, Field(ge=0, le=3)] = 1
    """Ways out to the internet: one is cheaper, one a zone survives the loss of a zone. None needs
    `interface_endpoints`."""
    interface_endpoints: bool = False
    """Reach ECR, CloudWatch, SageMaker, STS, SSM and Secrets Manager without leaving the network. Each has an
    hourly price in every zone; with few calls a NAT gateway is cheaper."""
    gateway_port: Port = 8000
    """Port on which the API gateway's container listens."""
    frontend_port: Port = 7860
    """Port on which the page's container listens."""

    @field_validator("zones")
    @classmethod
    def _each_once(cls, zones: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(zones)) < len(zones):
            raise ValueError("name each zone once")
        return zones

    @field_validator("cidr")
    @classmethod
    def _a_private_network(cls, value: str) -> str:
        network = IPv4Network(value)
        if not (network.is_private and 16 <= network.prefixlen <= 20):
            raise ValueError("give a private network between /16 and /20, such as 10.20.0.0/16")
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.gateway_port == self.frontend_port:
            raise ValueError(
                "gateway_port and frontend_port: give one port for each, so that rules can tell them apart"
            )
        return self

    @model_validator(mode="after")
    def _a_way_to_aws(self) -> Self:
        if not self.nat_gateways and not self.interface_endpoints:
            raise ValueError(
                "without a NAT gateway, containers reach AWS only through interface endpoints: set "
                "interface_endpoints: true or nat_gateways: 1 "
                "(https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html)"
            )
        if self.nat_gateways > len(self.zones):
            raise ValueError(
                f"a zone has one NAT gateway at most: set nat_gateways to {len(self.zones)} or less"
            )
        return self
