"""The operations on load balancers, and on the attributes and tags of everything."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from byollm.local.balancer import attributes
from byollm.local.balancer.state import Document, Kind, State
from byollm.local.protocol import AwsError, Members
from byollm.local.world import World

HOSTED_ZONE = "ZQSVJUPU6J1EY"


class LoadBalancerOperations:
    """CreateLoadBalancer and its neighbours.

    Args:
        state: what is declared.
        next_port: gives a free port of this machine.
        remove_listener: ends a listener and forgets it.
    """

    def __init__(
        self,
        world: World,
        state: State,
        next_port: Callable[[], int],
        remove_listener: Callable[[str], Awaitable[None]],
    ) -> None:
        self._world, self._state = world, state
        self._next_port, self._remove_listener = next_port, remove_listener

    async def create_load_balancer(self, given: Members) -> Members:
        """Declare a load balancer; it answers once it has a listener."""
        name = given["Name"]
        if given.get("Type", "application") != "application":
            raise AwsError("ValidationError", f"load balancers of type {given['Type']} are not emulated")
        if self._state.every("LoadBalancer", LoadBalancerName=name):
            raise AwsError(
                "DuplicateLoadBalancerName", f"A load balancer with the name '{name}' exists already"
            )
        subnets = given.get("Subnets") or [mapping["SubnetId"] for mapping in given.get("SubnetMappings", [])]
        vpc, zones = await asyncio.to_thread(self._zones, subnets)
        port = self._next_port()
        document = {
            "LoadBalancerArn": self._world.arn(
                "elasticloadbalancing", f"loadbalancer/app/{name}/{secrets.token_hex(8)}"
            ),
            "LoadBalancerName": name,
            # AWS gives a name without a port; here no names are made, and the usual ports are the system's.
            "DNSName": f"localhost:{port}",
            "LocalPort": port,
            "CanonicalHostedZoneId": HOSTED_ZONE,
            "CreatedTime": datetime.now(UTC).isoformat(),
            "Scheme": given.get("Scheme", "internet-facing"),
            "VpcId": vpc,
            "State": {"Code": "active"},
            "Type": "application",
            "AvailabilityZones": zones,
            "SecurityGroups": given.get("SecurityGroups", []),
            "IpAddressType": given.get("IpAddressType", "ipv4"),
            "Tags": given.get("Tags", []),
        }
        self._state.put("LoadBalancer", document)
        return {"LoadBalancers": [document]}

    def _zones(self, subnets: list[str]) -> tuple[str, list[Document]]:
        try:
            found = self._world.client("ec2").describe_subnets(SubnetIds=subnets)["Subnets"]
        except ClientError as error:
            raise AwsError("SubnetNotFound", error.response["Error"]["Message"]) from None
        if len({subnet["AvailabilityZone"] for subnet in found}) < 2:
            raise AwsError(
                "ValidationError",
                "At least two subnets in two different Availability Zones must be specified",
            )
        zones = [
            {
                "ZoneName": subnet["AvailabilityZone"],
                "SubnetId": subnet["SubnetId"],
                "LoadBalancerAddresses": [],
            }
            for subnet in found
        ]
        return found[0]["VpcId"], zones

    async def describe_load_balancers(self, given: Members) -> Members:
        """List load balancers."""
        found = self._state.select("LoadBalancer", given.get("LoadBalancerArns"), given.get("Names"))
        return {"LoadBalancers": found}

    async def delete_load_balancer(self, given: Members) -> Members:
        """Remove a load balancer and its listeners; one that is not there is removed already."""
        arn = given["LoadBalancerArn"]
        for document in self._state.every("LoadBalancer", LoadBalancerArn=arn):
            if attributes.read("LoadBalancer", document, "deletion_protection.enabled") == "true":
                raise AwsError(
                    "OperationNotPermitted",
                    f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled",
                )
            for listener in self._state.every("Listener", LoadBalancerArn=arn):
                await self._remove_listener(listener["ListenerArn"])
            self._state.delete("LoadBalancer", arn)
        return {}

    async def set_security_groups(self, given: Members) -> Members:
        """Replace the security groups, which stop nobody on this machine."""
        self._change(given["LoadBalancerArn"], SecurityGroups=given["SecurityGroups"])
        return {"SecurityGroupIds": given["SecurityGroups"]}

    async def set_subnets(self, given: Members) -> Members:
        """Replace the subnets."""
        subnets = given.get("Subnets") or [mapping["SubnetId"] for mapping in given.get("SubnetMappings", [])]
        self._state.find("LoadBalancer", given["LoadBalancerArn"])
        _, zones = await asyncio.to_thread(self._zones, subnets)
        self._change(given["LoadBalancerArn"], AvailabilityZones=zones)
        return {"AvailabilityZones": zones}

    async def set_ip_address_type(self, given: Members) -> Members:
        """Replace the kind of address."""
        self._change(given["LoadBalancerArn"], IpAddressType=given["IpAddressType"])
        return {"IpAddressType": given["IpAddressType"]}

    def _change(self, arn: str, **members: object) -> None:
        document = self._state.find("LoadBalancer", arn)
        document.update(members)
        self._state.put("LoadBalancer", document)

    async def describe_load_balancer_attributes(self, given: Members) -> Members:
        """List all attributes."""
        return self._attributes("LoadBalancer", given["LoadBalancerArn"])

    async def modify_load_balancer_attributes(self, given: Members) -> Members:
        """Set attributes; they count from the next request on."""
        return self._attributes("LoadBalancer", given["LoadBalancerArn"], given["Attributes"])

    async def describe_target_group_attributes(self, given: Members) -> Members:
        """List all attributes."""
        return self._attributes("TargetGroup", given["TargetGroupArn"])

    async def modify_target_group_attributes(self, given: Members) -> Members:
        """Set attributes; they count from the next request on."""
        return self._attributes("TargetGroup", given["TargetGroupArn"], given["Attributes"])

    async def describe_listener_attributes(self, given: Members) -> Members:
        """List all attributes."""
        return self._attributes("Listener", given["ListenerArn"])

    async def modify_listener_attributes(self, given: Members) -> Members:
        """Set attributes."""
        return self._attributes("Listener", given["ListenerArn"], given["Attributes"])

    def _attributes(self, kind: Kind, arn: str, given: list[Document] | None = None) -> Members:
        document = self._state.find(kind, arn)
        if given is not None:
            attributes.change(kind, document, given)
            self._state.put(kind, document)
        return {"Attributes": attributes.listed(kind, document)}

    async def add_tags(self, given: Members) -> Members:
        """Set tags."""
        for arn in given["ResourceArns"]:
            kind, document = self._state.owner_of(arn)
            tags = {tag["Key"]: tag for tag in [*document["Tags"], *given["Tags"]]}
            document["Tags"] = list(tags.values())
            self._state.put(kind, document)
        return {}

    async def remove_tags(self, given: Members) -> Members:
        """Remove tags."""
        for arn in given["ResourceArns"]:
            kind, document = self._state.owner_of(arn)
            document["Tags"] = [tag for tag in document["Tags"] if tag["Key"] not in given["TagKeys"]]
            self._state.put(kind, document)
        return {}

    async def describe_tags(self, given: Members) -> Members:
        """List the tags of each of these."""
        return {
            "TagDescriptions": [
                {"ResourceArn": arn, "Tags": self._state.owner_of(arn)[1]["Tags"]}
                for arn in given["ResourceArns"]
            ]
        }
