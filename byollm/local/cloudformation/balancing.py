"""Load balancers, their listeners and rules, and their groups of targets."""

from collections.abc import Mapping
from dataclasses import dataclass

from byollm.local.cloudformation.provider import Made, Members, Properties, Provider, Resource

_ELB = "elbv2"


class _Tagged(Provider):
    """What has an ARN, tags, and perhaps a list of attributes, each set by a call of its own."""

    tags = "list"
    attributes: str | None = None
    """The property that lists its attributes; the operations that set and remove follow from `word`."""
    word: str
    """What its operations call it."""

    def _made(self, resource: Resource, answer: Members) -> Members:
        found: Members = next(value for value in answer.values() if isinstance(value, list))[0]
        if self.attributes:
            self._settle(resource, found[f"{self.word}Arn"])
        return found

    def _members(self, resource: Resource, *without: str) -> Members:
        apart = {*without, self.attributes}
        if not resource.properties.get("Tags"):
            apart.add("Tags")  # an empty list of them is refused
        return {name: value for name, value in resource.properties.items() if name not in apart}

    def _settle(self, resource: Resource, arn: str) -> None:
        """Set its attributes."""
        wanted = resource.properties.get(self.attributes or "")
        if wanted:
            members = {f"{self.word}Arn": arn, "Attributes": wanted}
            resource.call(_ELB, f"Modify{self.word}Attributes", members)

    def _retag(self, resource: Resource, arn: str, old: Properties) -> None:
        before, after = old.get("Tags", []), resource.properties.get("Tags", [])
        gone = {tag["Key"] for tag in before} - {tag["Key"] for tag in after}
        if gone:
            resource.call(_ELB, "RemoveTags", {"ResourceArns": [arn], "TagKeys": sorted(gone)})
        if after:
            resource.call(_ELB, "AddTags", {"ResourceArns": [arn], "Tags": after})

    def delete(self, resource: Resource, id: str) -> None:
        """Remove it."""
        resource.remove(_ELB, f"Delete{self.word}", {f"{self.word}Arn": id})


class _Balancer(_Tagged):
    """A load balancer."""

    replaces = ("Name", "Scheme", "Type")
    name = "Name"
    attributes = "LoadBalancerAttributes"
    word = "LoadBalancer"

    def create(self, resource: Resource) -> Made:
        """Make it."""
        members = {"Name": resource.named(32), **self._members(resource)}
        return self._as_made(self._made(resource, resource.call(_ELB, "CreateLoadBalancer", members)))

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change its place and its attributes."""
        wanted, key = resource.properties, {"LoadBalancerArn": id}
        for name, operation in (("Subnets", "SetSubnets"), ("SecurityGroups", "SetSecurityGroups")):
            if wanted.get(name) != old.get(name):
                resource.call(_ELB, operation, {**key, name: wanted[name]})
        self._settle(resource, id)
        self._retag(resource, id, old)
        found = resource.call(_ELB, "DescribeLoadBalancers", {"LoadBalancerArns": [id]})
        return self._as_made(found["LoadBalancers"][0])

    @staticmethod
    def _as_made(found: Members) -> Made:
        arn = found["LoadBalancerArn"]
        attributes = {
            "LoadBalancerArn": arn,
            "LoadBalancerFullName": arn.partition(":loadbalancer/")[2],
            "LoadBalancerName": found["LoadBalancerName"],
            "DNSName": found["DNSName"],
            "CanonicalHostedZoneID": found.get("CanonicalHostedZoneId", ""),
            "SecurityGroups": found.get("SecurityGroups", []),
        }
        return arn, attributes


class _Targets(_Tagged):
    """A group of targets."""

    replaces = ("IpAddressType", "Name", "Port", "Protocol", "ProtocolVersion", "TargetType", "VpcId")
    name = "Name"
    attributes = "TargetGroupAttributes"
    word = "TargetGroup"

    def create(self, resource: Resource) -> Made:
        """Make it, with the targets that the template names."""
        members = {"Name": resource.named(32), **self._members(resource, "Targets")}
        found = self._made(resource, resource.call(_ELB, "CreateTargetGroup", members))
        targets = resource.properties.get("Targets")
        if targets:
            key = {"TargetGroupArn": found["TargetGroupArn"]}
            resource.call(_ELB, "RegisterTargets", {**key, "Targets": targets})
        return self._as_made(found)

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change its health check and its attributes."""
        changed = self._members(resource, *self.replaces, "Targets", "Tags")
        key = {"TargetGroupArn": id}
        found = resource.call(_ELB, "ModifyTargetGroup", {**changed, **key})["TargetGroups"][0]
        self._settle(resource, id)
        self._retag(resource, id, old)
        return self._as_made(found)

    @staticmethod
    def _as_made(found: Members) -> Made:
        arn = found["TargetGroupArn"]
        attributes = {
            "TargetGroupArn": arn,
            "TargetGroupFullName": arn.rpartition(":")[2],
            "TargetGroupName": found["TargetGroupName"],
            "LoadBalancerArns": found.get("LoadBalancerArns", []),
        }
        return arn, attributes


@dataclass(frozen=True, kw_only=True)
class _Way(_Tagged):
    """A listener, or a rule of one: what leads requests somewhere."""

    word: str
    arn: str
    replaces: tuple[str, ...]
    fixed: Mapping[str, str]
    """Properties that its operation of change does not take, and by which operation they are changed."""
    attributes: str | None = None

    def create(self, resource: Resource) -> Made:
        """Make it."""
        found = self._made(resource, resource.call(_ELB, f"Create{self.word}", self._members(resource)))
        return self._as_made(found[self.arn])

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change it."""
        changed = self._members(resource, *self.replaces, *self.fixed, "Tags")
        resource.call(_ELB, f"Modify{self.word}", {self.arn: id, **changed})
        for name, operation in self.fixed.items():
            if resource.properties[name] != old[name]:
                member = {name: resource.properties[name], self.arn: id}
                resource.call(_ELB, operation, {"RulePriorities": [member]})
        self._settle(resource, id)
        self._retag(resource, id, old)
        return self._as_made(id)

    def _as_made(self, arn: str) -> Made:
        return arn, {self.arn: arn}


PROVIDERS: dict[str, Provider] = {
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _Balancer(),
    "AWS::ElasticLoadBalancingV2::TargetGroup": _Targets(),
    "AWS::ElasticLoadBalancingV2::Listener": _Way(
        word="Listener",
        arn="ListenerArn",
        replaces=("LoadBalancerArn",),
        fixed={},
        attributes="ListenerAttributes",
    ),
    "AWS::ElasticLoadBalancingV2::ListenerRule": _Way(
        word="Rule",
        arn="RuleArn",
        replaces=("ListenerArn",),
        fixed={"Priority": "SetRulePriorities"},
    ),
}
