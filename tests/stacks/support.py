"""Synthesises environments as the CDK's command line would, and reads what came out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stacks  # settles which Node runs the CDK, so before aws_cdk
from byollm.settings import Settings, load_settings
from stacks.platform import add_platform

from aws_cdk import App  # isort: skip

ROOT = Path(stacks.__file__).parents[1]
ENVIRONMENTS = sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if path.stem != "base")

PSEUDO = {"AWS::AccountId": "123456789012", "AWS::Region": "ca-central-1", "AWS::Partition": "aws"}

Resource = dict[str, Any]


@dataclass(frozen=True)
class Synthesis:
    """The templates of one environment, by the stack's role: `network`, `storage`."""

    env: str
    directory: Path
    templates: dict[str, dict[str, Any]]

    def resources(self, *types: str) -> Iterator[tuple[str, str, Resource]]:
        """Yield role of the stack, logical id and resource, of all types or of these."""
        for role, template in self.templates.items():
            for name, resource in template["Resources"].items():
                if not types or resource["Type"] in types:
                    yield role, name, resource

    def of(self, role: str, type: str) -> dict[str, Any]:
        """Return the properties of the resources of one type in one stack, by logical id."""
        found = self.templates[role]["Resources"].items()
        return {name: resource["Properties"] for name, resource in found if resource["Type"] == type}


def new_app(directory: Path) -> App:
    """Return an app with the context of `cdk.json`, which the command line would hand over."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    return App(analytics_reporting=False, context=context, outdir=str(directory))


def synthesise(env: str, directory: Path, settings: Settings | None = None) -> Synthesis:
    """Synthesise one environment, with all checks on, into `directory`."""
    app = new_app(directory)
    add_platform(app, env=env, settings=settings or load_settings(env))
    app.synth()
    prefix, suffix = f"byollm-{env}-", ".template.json"
    templates = {
        path.name.removeprefix(prefix).removesuffix(suffix): json.loads(path.read_text())
        for path in sorted(directory.glob(f"*{suffix}"))
    }
    return Synthesis(env, directory, templates)


def resolved(value: Any) -> str:
    """Write out a text of a template as CloudFormation would, with names for what it knows only later."""
    if isinstance(value, str):
        return value
    ((function, arguments),) = value.items()
    if function == "Fn::Join":
        return str(arguments[0]).join(map(resolved, arguments[1]))
    named: str = arguments if isinstance(arguments, str) else ".".join(arguments)
    return PSEUDO.get(named) or f"known-at-deployment-{named.rpartition(':')[2]}"
