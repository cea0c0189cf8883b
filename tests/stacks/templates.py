"""The committed templates as one platform: what stands where, and what refers to what, over stacks too."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.stacks import snapshots
from tests.stacks.whole import WHOLE

SHOWN = "prod"
"""The environment that pages describe; what it leaves off is taken from the one with everything on."""


@dataclass(frozen=True)
class Resource:
    """One resource: the role of its stack, its logical id, its type and its properties."""

    stack: str
    id: str
    type: str
    properties: dict[str, Any] = field(compare=False)

    @property
    def name(self) -> str:
        """The logical id without the hash that the construct library adds."""
        return re.sub(r"[0-9A-F]{8}$", "", self.id)


class Platform:
    """All resources of the platform, by the role of their stack and their logical id."""

    def __init__(self) -> None:
        templates = snapshots.read(WHOLE) | snapshots.read(SHOWN)
        self.stacks = list(templates)
        self._resources = {
            (stack, id): Resource(stack, id, resource["Type"], resource.get("Properties", {}))
            for stack, template in templates.items()
            for id, resource in template["Resources"].items()
        }
        self._imports = {stack: set(_imported(template)) for stack, template in templates.items()}

    def of(self, *types: str, stack: str | None = None) -> Iterator[Resource]:
        """Yield the resources of these types, of one stack or of all."""
        for resource in self._resources.values():
            if resource.type in types and stack in (None, resource.stack):
                yield resource

    def uses(self, stack: str) -> set[str]:
        """Name the stacks that a stack imports from."""
        return {_exported(name)[0] for name in self._imports[stack]}

    def referred(self, resource: Resource, value: Any) -> list[Resource]:
        """Return what a value of a resource's properties refers to, in its own stack or in another."""
        found = []
        for function, argument in _references(value):
            if function == "Fn::ImportValue":
                there = self._exporting(*_exported(argument))
            else:
                id = argument if isinstance(argument, str) else argument[0]
                there = self._resources.get((resource.stack, id))
            if there:
                found.append(there)
        return found

    def _exporting(self, stack: str, output: str) -> Resource | None:
        """Find what an export is of: its name is made of the logical id, an attribute and a hash."""
        ids = [id for home, id in self._resources if home == stack and output.startswith(id)]
        return self._resources[stack, max(ids, key=len)] if ids else None


def general(text: str) -> str:
    """Return a text of a template without the name of its environment."""
    return re.sub(rf"byollm([-/])({SHOWN}|{WHOLE})\b", r"byollm\1<env>", text)


def _references(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, argument in value.items():
            if key in ("Ref", "Fn::GetAtt", "Fn::ImportValue"):
                yield key, argument
            else:
                yield from _references(argument)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)


def _imported(template: dict[str, Any]) -> Iterator[str]:
    return (argument for function, argument in _references(template) if function == "Fn::ImportValue")


def _exported(name: str) -> tuple[str, str]:
    """Tell an export's stack and what of the stack it is."""
    stack, output = name.split(":")
    return stack.split("-", 2)[2], re.sub(r"^ExportsOutput(Ref|FnGetAtt)", "", output)


def statements(platform: Platform, role: Resource) -> Iterator[dict[str, Any]]:
    """Yield what a role may do by the policies that are its own alone."""
    for policy in platform.of("AWS::IAM::Policy", stack=role.stack):
        if role in platform.referred(policy, policy.properties["Roles"]):
            yield from policy.properties["PolicyDocument"]["Statement"]


def listed(value: Any) -> list[Any]:
    """Return what a policy writes as one or as a list of several as a list."""
    return value if isinstance(value, list) else [value]
