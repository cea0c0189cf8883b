"""What docs/architecture.md and docs/security.md show, made from the committed templates.

`make snapshots` renews it; a test fails where a document shows another app than the one there is.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.stacks.permissions import permissions
from tests.stacks.snapshots import read
from tests.stacks.support import ROOT

DOCUMENTS = ("architecture", "security")
BLOCK = re.compile(r"(<!-- made from the templates: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
OPTIONAL = read("whole")
TEMPLATES = read("prod") | OPTIONAL

Template = dict[str, Any]


def document(name: str) -> str:
    """Return a document with its blocks as the templates are now."""
    text = (ROOT / "docs" / f"{name}.md").read_text()
    return BLOCK.sub(lambda block: f"{block[1]}{DRAWN[block[2]]()}\n{block[3]}", text)


def write() -> None:
    """Renew the documents."""
    for name in DOCUMENTS:
        (ROOT / "docs" / f"{name}.md").write_text(document(name))


def _mermaid(kind: str, lines: Iterator[str]) -> str:
    return "\n".join(["```mermaid", kind, *(f"    {line}" for line in lines), "```"])


def _stacks() -> str:
    """Draw an arrow from each stack to those whose exports it imports; what repeats others is left out."""
    needs = {
        role: {
            found[1]
            for found in re.finditer(
                r'"byollm-(?:prod|whole)-([\w-]+):Exports', json.dumps(template["Resources"])
            )
        }
        for role, template in TEMPLATES.items()
    }

    def behind(role: str) -> set[str]:
        return needs[role].union(*(behind(each) for each in needs[role]))

    def lines() -> Iterator[str]:
        for role in sorted(TEMPLATES):
            name = f"{role}([{role}])" if role in OPTIONAL else f"{role}[{role}]"
            yield name
            farther = set[str]().union(*(behind(each) for each in needs[role]))
            yield from (f"{role} --> {each}" for each in sorted(needs[role] - farther))

    return _mermaid("flowchart LR", lines())


def _flows() -> str:
    """Draw who may open a connection to whom: every rule of every security group."""
    rules = set[tuple[str, str, int]]()
    for role in ("network", "services"):
        for name, resource in TEMPLATES[role]["Resources"].items():
            given = resource.get("Properties", {})
            if resource["Type"] == "AWS::EC2::SecurityGroup":
                rules |= {
                    ("anywhere", _group(name), rule["FromPort"])
                    for rule in given.get("SecurityGroupIngress", ())
                }
                rules |= {
                    (_group(name), _place(rule), rule["FromPort"])
                    for rule in given.get("SecurityGroupEgress", ())
                    if rule["CidrIp"] != "255.255.255.255/32"  # the way of CDK to say: nowhere
                }
            elif resource["Type"] == "AWS::EC2::SecurityGroupIngress":
                source = given.get("SourceSecurityGroupId")
                rules.add(
                    (_group(source) if source else "people", _group(given["GroupId"]), given["FromPort"])
                )
    ports = {
        (one, other): sorted(port for a, b, port in rules if (a, b) == (one, other))
        for one, other, _ in rules
    }
    lines = (
        f"{one}[{_words(one)}] -- {', '.join(map(str, found))} --> {other}[{_words(other)}]"
        for (one, other), found in sorted(ports.items())
    )
    return _mermaid("flowchart LR", lines)


def _group(named: Any) -> str:
    """Return the role of a security group, however a template names it."""
    found = re.search(r"(\w+?)Group[0-9A-F]{8}", json.dumps(named).replace("ExportsOutputFnGetAtt", ""))
    assert found, named
    return found[1]


def _place(rule: dict[str, Any]) -> str:
    return "AWS" if rule["Description"] == "AWS services" else "anywhere"


def _words(name: str) -> str:
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)).lower().replace("aws", "AWS")


def _release() -> str:
    """Draw the states of a release, dotted where one is come to by a failure."""
    machine = json.loads((ROOT / "pipeline" / "release.asl.json").read_text())

    def lines() -> Iterator[str]:
        yield f"begin(( )) --> {machine['StartAt']}"
        for name, state in machine["States"].items():
            yield from (f"{name} -- yes --> {choice['Next']}" for choice in state.get("Choices", ()))
            if "Default" in state:
                yield f"{name} -- not yet --> {state['Default']}"
            if "Next" in state:
                yield f"{name} --> {state['Next']}"
            caught = {each["Next"] for each in state.get("Catch", ())} - {state.get("Next")}
            yield from (f"{name} -. fails .-> {each}" for each in sorted(caught))

    return _mermaid("flowchart TD", lines())


def _pipeline() -> str:
    """Draw the stages of the pipeline, each with its actions in their order."""
    (pipeline,) = (
        each["Properties"]
        for each in OPTIONAL["delivery"]["Resources"].values()
        if each["Type"] == "AWS::CodePipeline::Pipeline"
    )

    def lines() -> Iterator[str]:
        names = [stage["Name"] for stage in pipeline["Stages"]]
        for stage in pipeline["Stages"]:
            actions = sorted(stage["Actions"], key=lambda action: action.get("RunOrder", 1))
            steps = "<br/>".join(_words(action["Name"]) for action in actions)
            yield f'{stage["Name"]}["<b>{stage["Name"]}</b><br/>{steps}"]'
        yield " --> ".join(names)

    return _mermaid("flowchart LR", lines())


DRAWN: dict[str, Callable[[], str]] = {
    "stacks": _stacks,
    "flows": _flows,
    "release": _release,
    "pipeline": _pipeline,
    "permissions": lambda: permissions(TEMPLATES),
}


if __name__ == "__main__":
    write()
