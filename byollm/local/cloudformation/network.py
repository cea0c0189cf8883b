"""EC2's network parts that ministack's CloudFormation lacks, though its EC2 has them."""

from dataclasses import dataclass
from typing import Literal

from byollm.local.cloudformation.provider import Made, Members, Properties, Provider, Resource

_Tags = Literal["list", "map"] | None


@dataclass(frozen=True, kw_only=True)
class _Tagged(Provider):
    """What EC2 makes with tags, and of which nothing else can be changed.

    Args:
        kind: EC2's word for it where it is tagged.
        creates: the operation that makes it.
        removes: the operation that removes it, and the member that names it there.
        read: where its id is in the answer of `creates`.
        attribute: what templates ask for its id by.
        lists: properties that EC2 takes in a list under another name.
    """

    kind: str
    creates: str
    removes: tuple[str, str]
    read: tuple[str, ...]
    attribute: str
    lists: tuple[tuple[str, str], ...] = ()
    replaces: tuple[str, ...]
    tags: _Tags = "list"

    def create(self, resource: Resource) -> Made:
        """Make it, tagged."""
        members = {name: value for name, value in resource.properties.items() if name != "Tags"}
        for name, plural in self.lists:
            members[plural] = [members.pop(name)]
        tags = resource.properties["Tags"]
        if tags:
            members["TagSpecifications"] = [{"ResourceType": self.kind, "Tags": tags}]
        answer = resource.call("ec2", self.creates, members)
        for step in self.read[:-1]:
            answer = answer[step]
        found = answer[self.read[-1]]
        id = found if isinstance(found, str) else found[0]
        return id, {self.attribute: id}

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Give it the tags that it should have now."""
        tags = resource.properties["Tags"]
        resource.call("ec2", "DeleteTags", {"Resources": [id]})
        if tags:
            resource.call("ec2", "CreateTags", {"Resources": [id], "Tags": tags})
        return id, {self.attribute: id}

    def delete(self, resource: Resource, id: str) -> None:
        """Remove it."""
        operation, member = self.removes
        resource.remove("ec2", operation, {member: [id] if member.endswith("s") else id})


class _Address(_Tagged):
    """An elastic address, which CloudFormation knows by the address itself."""

    def create(self, resource: Resource) -> Made:
        """Allocate it."""
        allocation, _ = super().create(resource)
        address = self._find(resource, "AllocationId", allocation)[0]["PublicIp"]
        return address, {"AllocationId": allocation, "PublicIp": address}

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change its tags."""
        allocation = self._find(resource, "PublicIp", id)[0]["AllocationId"]
        super().update(resource, allocation, old)
        return id, {"AllocationId": allocation, "PublicIp": id}

    def delete(self, resource: Resource, id: str) -> None:
        """Release it."""
        for found in self._find(resource, "PublicIp", id):
            super().delete(resource, found["AllocationId"])

    @staticmethod
    def _find(resource: Resource, by: str, value: str) -> list[Members]:
        # Among all: ministack does not narrow what it is asked for.
        found = resource.call("ec2", "DescribeAddresses", {})["Addresses"]
        return [address for address in found if address[by] == value]


@dataclass(frozen=True)
class _Rule(Provider):
    """A rule of a security group, which stands beside the group: `Ingress` or `Egress`."""

    direction: str

    def create(self, resource: Resource) -> Made:
        """Add the rule to its group."""
        rule = {
            "GroupId": resource.properties["GroupId"],
            "IpPermissions": [_permission(resource.properties)],
        }
        made = resource.call("ec2", f"AuthorizeSecurityGroup{self.direction}", rule)
        id = made["SecurityGroupRules"][0]["SecurityGroupRuleId"]
        return id, {"Id": id}

    def delete(self, resource: Resource, id: str) -> None:
        """Take the rule away."""
        where = {"GroupId": resource.properties["GroupId"], "SecurityGroupRuleIds": [id]}
        resource.remove("ec2", f"RevokeSecurityGroup{self.direction}", where)


# Where traffic comes from or goes to: the property, the list that EC2 has it in, and its name there.
_PEERS = (
    ("CidrIp", "IpRanges", "CidrIp"),
    ("CidrIpv6", "Ipv6Ranges", "CidrIpv6"),
    ("SourcePrefixListId", "PrefixListIds", "PrefixListId"),
    ("DestinationPrefixListId", "PrefixListIds", "PrefixListId"),
    ("SourceSecurityGroupId", "UserIdGroupPairs", "GroupId"),
    ("DestinationSecurityGroupId", "UserIdGroupPairs", "GroupId"),
)


def _permission(properties: Properties) -> Members:
    note = {"Description": properties["Description"]} if "Description" in properties else {}
    kept = {name: properties[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in properties}
    peers = {
        plural: [{member: properties[name], **note}] for name, plural, member in _PEERS if name in properties
    }
    return {**kept, **peers}


PROVIDERS: dict[str, Provider] = {
    "AWS::EC2::EIP": _Address(
        kind="elastic-ip",
        creates="AllocateAddress",
        removes=("ReleaseAddress", "AllocationId"),
        read=("AllocationId",),
        attribute="AllocationId",
        replaces=("Domain", "NetworkBorderGroup"),
    ),
    "AWS::EC2::NatGateway": _Tagged(
        kind="natgateway",
        creates="CreateNatGateway",
        removes=("DeleteNatGateway", "NatGatewayId"),
        read=("NatGateway", "NatGatewayId"),
        attribute="NatGatewayId",
        replaces=("AllocationId", "SubnetId"),
    ),
    "AWS::EC2::FlowLog": _Tagged(
        kind="vpc-flow-log",
        creates="CreateFlowLogs",
        removes=("DeleteFlowLogs", "FlowLogIds"),
        read=("FlowLogIds",),
        attribute="Id",
        lists=(("ResourceId", "ResourceIds"),),
        replaces=(
            "DeliverLogsPermissionArn",
            "LogGroupName",
            "MaxAggregationInterval",
            "ResourceId",
            "ResourceType",
            "TrafficType",
        ),
    ),
    "AWS::EC2::SecurityGroupIngress": _Rule("Ingress"),
    "AWS::EC2::SecurityGroupEgress": _Rule("Egress"),
}
