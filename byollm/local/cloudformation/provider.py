"""What CloudFormation asks of the provider of one resource type."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from botocore.exceptions import ClientError

from byollm.local.cloudformation.fit import fit
from byollm.local.protocol import snake_case
from byollm.local.world import World

Properties = Mapping[str, Any]
Members = dict[str, Any]
Made = tuple[str, Members]  # the physical id, and the attributes that templates may ask for

_GONE = ("NotFound", "NoSuch", "not find", "not found", "does not exist")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of a stack, as its template wants it.

    Args:
        world: the emulated AWS, in the stack's region.
        properties: resolved, with the stack's tags among them where the type has tags.
        named: makes a name of at most so many characters, the same each time until the resource is replaced.
    """

    world: World
    properties: Properties
    named: Callable[[int], str]

    def call(self, service: str, operation: str, members: Properties) -> Members:
        """Call AWS with members written as CloudFormation writes them, and return the answer."""
        client = self.world.client(service)
        shape = client.meta.service_model.operation_model(operation).input_shape
        answer: Members = getattr(client, snake_case(operation))(**fit(shape, members))
        answer.pop("ResponseMetadata", None)
        return answer

    def remove(self, service: str, operation: str, members: Properties) -> None:
        """Call what removes something; where it is gone already, that is no error."""
        try:
            self.call(service, operation, members)
        except ClientError as error:
            said = error.response["Error"]["Code"] + error.response["Error"].get("Message", "")
            if not any(word in said for word in _GONE):
                raise


class Provider(ABC):
    """How resources of one type are made, changed and removed, through AWS's own API.

    Its methods may block, and raise what CloudFormation is to report.
    """

    replaces: tuple[str, ...] | Literal["all"] = "all"
    """Properties of which a change makes a new resource; `all` where nothing is changed in place."""
    name: str | None = None
    """The property that names the resource, if it has one: what its template names is not replaced."""
    tags: Literal["list", "map"] | None = None
    """How its property `Tags` is written; None where stacks do not tag it."""

    @abstractmethod
    def create(self, resource: Resource) -> Made:
        """Make the resource."""

    def update(self, resource: Resource, id: str, old: Properties) -> Made:
        """Change the resource `id`, which had the properties `old`, in place; `all` is never asked."""
        raise TypeError(f"{type(self).__name__} changes nothing in place, and says otherwise in `replaces`")

    @abstractmethod
    def delete(self, resource: Resource, id: str) -> None:
        """Remove the resource; one that is gone already is no error."""
