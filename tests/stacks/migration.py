"""What holds data, as it was last deployed, and what CloudFormation would do to it now.

CloudFormation replaces a resource, and so loses what it holds, when its logical id or type changes, or a
property that is settled at its creation. Which properties these are stands in the resource's schema.
"""

import json
from pathlib import Path
from typing import Any

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from tests.stacks.support import Synthesis

STATEFUL = (
    "AWS::Cognito::UserPool",
    "AWS::DynamoDB::Table",
    "AWS::ECR::Repository",
    "AWS::KMS::Key",
    "AWS::S3::Bucket",
    "AWS::SageMaker::ModelPackageGroup",
)
BASELINE = Path(__file__).with_name("baseline")

Baseline = dict[str, dict[str, Any]]


def baseline_of(synthesis: Synthesis) -> Baseline:
    """Describe what holds data: by `stack/logical id`, its type and what was settled at its creation."""
    return {
        f"{role}/{name}": {
            "type": resource["Type"],
            "settled": settled(resource["Type"], resource.get("Properties", {})),
        }
        for role, name, resource in synthesis.resources(*STATEFUL)
    }


def settled(type: str, properties: dict[str, Any]) -> dict[str, Any]:
    """Return the properties that can be set at creation only."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("ca-central-1", type).schema
    paths = [*schema.get("createOnlyProperties", []), *schema.get("conditionalCreateOnlyProperties", [])]
    names = {path.split("/")[2] for path in paths}  # /properties/Name, or deeper
    return {name: properties[name] for name in sorted(names & set(properties))}


def losses(before: Baseline, after: Baseline) -> list[str]:
    """Say what would be removed or replaced, each with what to do."""
    found = []
    for name, was in before.items():
        now = after.get(name)
        if now is None:
            found.append(f"{name} ({was['type']}) would be removed")
        elif now["type"] != was["type"]:
            found.append(f"{name} would change from {was['type']} to {now['type']}, and so be replaced")
        else:
            changed = sorted(
                key
                for key in was["settled"].keys() | now["settled"].keys()
                if was["settled"].get(key) != now["settled"].get(key)
            )
            found += [
                f"{name} ({was['type']}) would be replaced: {key} is settled at creation" for key in changed
            ]
    return found


def read(env: str) -> Baseline:
    """Read the committed baseline of one environment; empty for a new one."""
    path = BASELINE / f"{env}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def add(env: str, now: Baseline) -> None:
    """Add to the committed baseline what is new; what stands there is only ever taken out by hand."""
    merged = now | read(env)
    (BASELINE / f"{env}.json").write_text(json.dumps(merged, indent=1, sort_keys=True) + "\n")
