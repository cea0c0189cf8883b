"""The operations on target groups and their targets."""

import secrets
from collections.abc import Callable
from ipaddress import ip_address

from byollm.local.balancer.state import Document, State
from byollm.local.balancer.targets import REASONS, Target, Targets
from byollm.local.protocol import AwsError, Members
from byollm.local.world import World

HEALTH = {
    "HealthCheckProtocol": "HTTP",
    "HealthCheckPort": "traffic-port",
    "HealthCheckEnabled": True,
    "HealthCheckPath": "/",
    "HealthCheckIntervalSeconds": 30,
    "HealthCheckTimeoutSeconds": 5,
    "HealthyThresholdCount": 5,
    "UnhealthyThresholdCount": 2,
    "Matcher": {"HttpCode": "200"},
}


class TargetGroupOperations:
    """CreateTargetGroup, RegisterTargets and their neighbours.

    Args:
        state: what is declared.
        groups: the targets of each group by its ARN, kept up to date here.
        watch: begins to check the targets of a group.
    """

    def __init__(
        self, world: World, state: State, groups: dict[str, Targets], watch: Callable[[Document], Targets]
    ) -> None:
        self._world, self._state, self._groups, self._watch = world, state, groups, watch

    async def create_target_group(self, given: Members) -> Members:
        """Declare a target group."""
        name = given["Name"]
        if self._state.every("TargetGroup", TargetGroupName=name):
            raise AwsError(
                "DuplicateTargetGroupName", f"A target group with the name '{name}' exists already"
            )
        if given.get("TargetType", "instance") != "ip" or given.get("Protocol", "HTTP") != "HTTP":
            raise AwsError("ValidationError", "only targets of type ip that speak HTTP are emulated")
        if "Port" not in given or "VpcId" not in given:
            raise AwsError("ValidationError", "A port and a VPC ID must be specified")
        document = {
            **HEALTH,
            "TargetGroupArn": self._world.arn(
                "elasticloadbalancing", f"targetgroup/{name}/{secrets.token_hex(8)}"
            ),
            "TargetGroupName": name,
            "Protocol": "HTTP",
            "ProtocolVersion": given.get("ProtocolVersion", "HTTP1"),
            "Port": given["Port"],
            "VpcId": given["VpcId"],
            "TargetType": "ip",
            "IpAddressType": given.get("IpAddressType", "ipv4"),
            **_health(given),
            "Tags": given.get("Tags", []),
            "Targets": [],
        }
        self._state.put("TargetGroup", document)
        self._groups[document["TargetGroupArn"]] = self._watch(document)
        return {"TargetGroups": [self._shown(document)]}

    def _shown(self, document: Document) -> Document:
        return {**document, "LoadBalancerArns": self._state.balancers_of(document["TargetGroupArn"])}

    async def describe_target_groups(self, given: Members) -> Members:
        """List target groups."""
        found = self._state.select("TargetGroup", given.get("TargetGroupArns"), given.get("Names"))
        shown = [self._shown(document) for document in found]
        if "LoadBalancerArn" in given:
            self._state.find("LoadBalancer", given["LoadBalancerArn"])
            shown = [group for group in shown if given["LoadBalancerArn"] in group["LoadBalancerArns"]]
        return {"TargetGroups": shown}

    async def modify_target_group(self, given: Members) -> Members:
        """Change how the targets' health is checked; it counts from the next check on."""
        document = self._state.find("TargetGroup", given["TargetGroupArn"])
        document.update(_health(given, document))
        self._state.put("TargetGroup", document)
        return {"TargetGroups": [self._shown(document)]}

    async def delete_target_group(self, given: Members) -> Members:
        """Remove a target group that no rule forwards to."""
        arn = given["TargetGroupArn"]
        if self._state.balancers_of(arn):
            raise AwsError(
                "ResourceInUse", f"Target group '{arn}' is currently in use by a listener or a rule"
            )
        if arn in self._groups:
            await self._groups.pop(arn).stop()
        self._state.delete("TargetGroup", arn)
        return {}

    async def register_targets(self, given: Members) -> Members:
        """Take in targets: they get requests once they are healthy."""
        document = self._state.find("TargetGroup", given["TargetGroupArn"])
        for target in given["Targets"]:
            found = {"Id": _loopback(target["Id"]), "Port": target.get("Port", document["Port"])}
            if found not in document["Targets"]:
                document["Targets"].append(found)
            self._groups[document["TargetGroupArn"]].register(found["Id"], found["Port"])
        self._state.put("TargetGroup", document)
        return {}

    async def deregister_targets(self, given: Members) -> Members:
        """Send targets nothing more, and forget them when they have answered what they have."""
        document = self._state.find("TargetGroup", given["TargetGroupArn"])
        for target in given["Targets"]:
            gone = [
                known
                for known in document["Targets"]
                if known["Id"] == target["Id"] and known["Port"] == target.get("Port", known["Port"])
            ]
            for known in gone:
                document["Targets"].remove(known)
                self._groups[document["TargetGroupArn"]].deregister(known["Id"], known["Port"])
        self._state.put("TargetGroup", document)
        return {}

    async def describe_target_health(self, given: Members) -> Members:
        """Tell how targets are: those asked for, or all."""
        arn = given["TargetGroupArn"]
        document = self._state.find("TargetGroup", arn)
        used = bool(self._state.balancers_of(arn))
        known = {(target.id, target.port): target for target in self._groups[arn]}
        asked = [(target["Id"], target.get("Port", document["Port"])) for target in given.get("Targets", [])]
        return {
            "TargetHealthDescriptions": [
                {
                    "Target": {"Id": identity, "Port": port},
                    "HealthCheckPort": str(
                        port if document["HealthCheckPort"] == "traffic-port" else document["HealthCheckPort"]
                    ),
                    "TargetHealth": _health_of(known.get((identity, port)), used=used),
                }
                for identity, port in asked or known
            ]
        }


def _health_of(target: Target | None, *, used: bool) -> Document:
    if target is None:
        reason = ("Target.NotRegistered", "Target is not registered to the target group")
        return {"State": "unused", "Reason": reason[0], "Description": reason[1]}
    state = target.state if used or target.state == "draining" else "unused"
    if state == "healthy":
        return {"State": state}
    code, words = REASONS["unused"] if state == "unused" else target.reason
    return {"State": state, "Reason": code, "Description": words}


def _health(given: Members, before: Document = HEALTH) -> Document:
    """Return the members about health checks, within what AWS allows."""
    health = {name: given[name] for name in HEALTH if name in given}
    after = {**before, **health}
    if after["HealthCheckProtocol"] != "HTTP":
        raise AwsError("ValidationError", "health checks over HTTPS are not emulated")
    if after["HealthCheckTimeoutSeconds"] >= after["HealthCheckIntervalSeconds"]:
        raise AwsError("ValidationError", "Health check timeout must be smaller than the interval")
    return health


def _loopback(identity: str) -> str:
    try:
        if ip_address(identity).is_loopback:
            return identity
    except ValueError:
        pass
    raise AwsError("InvalidTarget", f"'{identity}': here a target is an address of this machine, 127.0.0.1")
