"""Writes `docs/configuration.md` from the descriptions on the fields."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from byollm.settings.tree import ENVIRONMENT_PREFIX, Settings

INTRODUCTION = f"""# Configuration

One typed tree. Each layer overrides the one before it:

1. the defaults below,
2. `config/base.yaml`, for every environment,
3. `config/<env>.yaml`, for the environment named by `--env` (`dev` unless told otherwise),
4. environment variables: `{ENVIRONMENT_PREFIX}SECTION__FIELD`, such as
   `{ENVIRONMENT_PREFIX}SERVER__PORT=9000`; lists and mappings are written as JSON,
   and `null` takes a value away.

An unknown setting or a value that is not allowed is refused before anything starts, with its path, the value
and what is allowed. `byollm config show --env dev` prints the result of all layers.

This page is made by `byollm config docs > docs/configuration.md`; a test keeps it true.
"""


def document() -> str:
    """Return the page, as Markdown."""
    parts = [INTRODUCTION]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(f"## `{name}`\n\n{_sentence(field)}\n")
            parts.append("| setting | allowed | default | what |\n|---|---|---|---|")
            parts.extend(_rows(field.annotation, name))
            parts.append("")
    return "\n".join(parts)


def _rows(section: type[BaseModel], path: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _rows(annotation, f"{path}.{name}")
            continue
        default = (
            "required" if field.is_required() else f"`{_plain(field.get_default(call_default_factory=True))}`"
        )
        yield f"| `{path}.{name}` | {_allowed(annotation, field)} | {default} | {_sentence(field)} |"


def _sentence(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|")


def _allowed(annotation: Any, field: FieldInfo | None = None) -> str:
    bounds = [text for text in map(_bound, field.metadata if field else []) if text]
    kind = _kind(annotation)
    return ", ".join([kind, *bounds]).replace("|", "\\|")


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [text for text in map(_bound, _flatten(arguments[1:])) if text]
        return " ".join([_kind(arguments[0]), *bounds])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(argument) for argument in arguments)
    if origin in (list, tuple, set, frozenset):
        return f"list of {_kind(arguments[0])}" if arguments else "list"
    if origin is dict:
        return f"mapping of {_kind(arguments[0])} to {_kind(arguments[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping with " + ", ".join(f"`{name}`" for name in annotation.model_fields)
    names = {int: "integer", float: "number", str: "text", bool: "`true` or `false`", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _flatten(metadata: Any) -> Iterator[Any]:
    for constraint in metadata:
        yield from constraint.metadata if isinstance(constraint, FieldInfo) else [constraint]


def _bound(constraint: Any) -> str | None:
    match constraint:
        case annotated_types.Ge():
            return f"≥ {constraint.ge}"
        case annotated_types.Gt():
            return f"> {constraint.gt}"
        case annotated_types.Le():
            return f"≤ {constraint.le}"
        case annotated_types.Lt():
            return f"< {constraint.lt}"
        case annotated_types.MinLen():
            return f"at least {constraint.min_length}"
        case annotated_types.MaxLen():
            return f"at most {constraint.max_length}"
    pattern = getattr(constraint, "pattern", None)
    return f"matching `{pattern}`" if pattern else None


def _plain(value: Any) -> str:
    """Write a default the way a YAML file would."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, tuple | list):
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    text = yaml.safe_dump(
        str(value) if hasattr(value, "__fspath__") else value, default_flow_style=True, width=10_000
    )
    return text.removesuffix("\n").removesuffix("\n...").replace("|", "\\|")
