"""Resource types that one API call makes, one changes and one removes: what differs stands in a table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from byollm.local.cloudformation.provider import Made, Members, Properties, Provider, Resource


@dataclass(frozen=True, kw_only=True)
class Calls(Provider):
    """A provider of three calls.

    Args:
        service: boto3's name of it.
        creates: the operation that makes a resource of its properties.
        changes: the operation that changes one; the same as `creates` where that puts what it is given.
        removes: the operation that removes one.
        read: the physical id and the attributes, from the members of the request and of the answer.
        key: the members that tell a resource to `changes` and `removes`, from id and properties.
        members: the members of a request, where they are not the properties by their own names.
        fixed: members that `changes` does not take.
        longest: characters that a generated name may have.
    """

    service: str
    creates: str
    changes: str | None = None
    removes: str
    read: Callable[[Members, Members], Made]
    key: Callable[[str, Properties], Members]
    members: Callable[[Properties], Members] = dict
    fixed: tuple[str, ...] = ()
    longest: int = 63
    replaces: tuple[str, ...] | Literal["all"] = "all"
    name: str | None = None
    tags: Literal["list", "map"] | None = None

    def create(self, resource: Resource) -> Made:
        """Make the resource."""
        members = self._members(resource)
        return self.read(members, resource.call(self.service, self.creates, members))

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change the resource in place."""
        assert self.changes is not None, "a type that nothing changes is replaced"
        members = self._members(resource)
        changed = {name: value for name, value in members.items() if name not in self.fixed}
        key = {} if self.changes == self.creates else self.key(id, resource.properties)
        answer = resource.call(self.service, self.changes, changed | key)
        return id, self.read(members | answer | key, answer)[1]

    def delete(self, resource: Resource, id: str) -> None:
        """Remove the resource."""
        resource.remove(self.service, self.removes, self.key(id, resource.properties))

    def _members(self, resource: Resource) -> Members:
        given = dict(resource.properties)
        if self.name is not None:
            given.setdefault(self.name, resource.named(self.longest))
        return self.members(given)
