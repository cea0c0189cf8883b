"""Who may do what, and why: the tables of docs/security.md, from the templates and `permissions.yaml`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from tests.stacks.templates import Platform, Resource, general, listed, statements

REASONS = Path(__file__).with_suffix(".yaml")

KINDS = {"AWS::S3::Bucket": "bucket", "AWS::KMS::Key": "key", "AWS::ECR::Repository": "repository"}
"""What people call a type, where it is not the type's last word."""

OWN = re.compile(r"(log group|queue|repository) \w+")
"""What is named by its kind alone where each of several roles has one of its own."""


@dataclass(frozen=True)
class Reason:
    """Why roles may do something; all patterns are as those of files."""

    about: str
    """The heading that it stands under."""
    who: tuple[str, ...]
    """Roles, as `stack/name`."""
    may: tuple[str, ...]
    """Actions; all of a statement, each matched by one of these."""
    why: str

    def is_for(self, who: str, statement: dict[str, Any]) -> bool:
        """Whether it is the reason of this statement: all its actions, and no pattern for none of them."""
        actions = listed(statement["Action"])
        return (
            any(fnmatchcase(who, pattern) for pattern in self.who)
            and all(any(fnmatchcase(action, pattern) for pattern in self.may) for action in actions)
            and all(any(fnmatchcase(action, pattern) for action in actions) for pattern in self.may)
        )


def reasons() -> list[Reason]:
    """Read what is written down."""
    return [
        Reason(about, tuple(each["who"]), tuple(each["may"]), each["why"])
        for about, group in yaml.safe_load(REASONS.read_text()).items()
        for each in group
    ]


def granted(platform: Platform) -> Iterator[tuple[Resource, dict[str, Any]]]:
    """Yield every statement of every role, and of every policy that several roles share."""
    for role in platform.of("AWS::IAM::Role"):
        for statement in statements(platform, role):
            yield role, statement
    for policy in platform.of("AWS::IAM::ManagedPolicy"):
        for statement in policy.properties["PolicyDocument"]["Statement"]:
            yield policy, statement


def called(holder: Resource) -> str:
    """Name a role or a policy as the reasons do."""
    return f"{holder.stack}/{holder.name}"


def written(platform: Platform) -> str:
    """Return the tables, one for each group of roles."""
    rows: dict[Reason, list[tuple[Resource, dict[str, Any]]]] = {reason: [] for reason in reasons()}
    for holder, statement in granted(platform):
        for reason in rows:
            if reason.is_for(called(holder), statement):
                rows[reason].append((holder, statement))
    lines: list[str] = []
    for about in dict.fromkeys(reason.about for reason in rows):
        lines += [f"### {about[0].upper()}{about[1:]}", "", "| who | may | on | why |", "|---|---|---|---|"]
        for reason, found in rows.items():
            if reason.about == about:
                lines.append(f"| {' | '.join(_cells(platform, found))} | {reason.why} |")
        lines.append("")
    return "\n".join(lines[:-1])


def _cells(platform: Platform, found: list[tuple[Resource, dict[str, Any]]]) -> Iterator[str]:
    yield "<br>".join(dict.fromkeys(f"`{called(holder)}`" for holder, _ in found))
    actions = {action for _, statement in found for action in listed(statement["Action"])}
    yield "<br>".join(f"`{action}`" for action in sorted(actions))
    places = {
        frozenset(_place(platform, holder, each) for each in listed(statement["Resource"]))
        for holder, statement in found
    }
    named = {place for each in places for place in each}
    if len(places) > 1 and all(len(each) == 1 for each in places):
        named = {OWN.sub(r"its own \1", place) for place in named}
    tests = (test for _, statement in found for test in statement.get("Condition", {}).values())
    conditions = ", ".join(sorted({f"`{key}`" for test in tests for key in test}))
    yield "<br>".join(f"`{place}`" for place in sorted(named)) + (
        f"<br>if {conditions}" if conditions else ""
    )


def _place(platform: Platform, holder: Resource, place: Any) -> str:
    """Name what a statement is about: a resource by its kind and name, another ARN by its end."""
    text = place if isinstance(place, str) else _text(platform, holder, place)
    return general(re.sub(r"^arn:aws:([\w-]+):[^:]*:[^:]*:", r"\1 ", text))


def _text(platform: Platform, holder: Resource, place: dict[str, Any]) -> str:
    ((function, argument),) = place.items()
    if function == "Fn::Join":
        return str(argument[0]).join(
            each if isinstance(each, str) else _text(platform, holder, each) for each in argument[1]
        )
    if argument == "AWS::AccountId":
        return "<account>"
    (resource,) = platform.referred(holder, place)
    kind = KINDS.get(
        resource.type, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", resource.type.rpartition(":")[2]).lower()
    )
    return f"{kind} {resource.name}"
