"""Properties as CloudFormation writes them, turned into members as AWS's API takes them."""

import json
from collections.abc import Mapping
from typing import Any


def fit(shape: Any, value: Any, path: str = "") -> Any:
    """Return `value` in the form of one of botocore's shapes.

    Names are matched without regard to case (the API of ECS writes `taskRoleArn` where CloudFormation writes
    `TaskRoleArn`), numbers and truths may come as strings, documents may come unwritten, and tags may come as
    a map or a list.

    Raises:
        ValueError: the API knows no such property: it would be lost.
    """
    match shape.type_name:
        case "structure":
            names = {name.lower(): name for name in shape.members}
            unknown = [name for name in value if name.lower() not in names]
            if unknown:
                raise ValueError(f"{path or shape.name} has no property {', '.join(unknown)}")
            return {
                names[name.lower()]: fit(
                    shape.members[names[name.lower()]], part, f"{path}.{name}".strip(".")
                )
                for name, part in value.items()
                if part is not None
            }
        case "list":
            if isinstance(value, Mapping):
                value = [{"Key": key, "Value": part} for key, part in value.items()]
            return [fit(shape.member, part, path) for part in value]
        case "map":
            if isinstance(value, list):
                value = {pair["Key"]: pair["Value"] for pair in value}
            return {key: fit(shape.value, part, f"{path}.{key}") for key, part in value.items()}
        case "integer" | "long":
            return int(value)
        case "float" | "double":
            return float(value)
        case "boolean":
            return value if isinstance(value, bool) else str(value).lower() == "true"
        case "string":
            return value if isinstance(value, str) else _written(value)
        case _:
            return value


def _written(value: object) -> str:
    """Write a document, a number or a truth as the API takes it in a string."""
    return json.dumps(value)
