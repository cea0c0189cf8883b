"""What every section of the settings tree shares."""

from difflib import get_close_matches
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from byollm.settings.errors import SettingsError


class Section(BaseModel):
    """One section: frozen, closed to unknown fields, described field by field by its docstrings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )

    def override(self, **values: Any) -> Self:
        """Return a copy with `values` set and validated; a value of None leaves the field as it is.

        Raises:
            SettingsError: a value is not allowed, or no such field exists.
        """
        given = {name: value for name, value in values.items() if value is not None}
        try:
            return type(self).model_validate(self.model_dump() | given)
        except ValidationError as error:
            raise SettingsError(explain(error, type(self))) from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Describe a validation error for people: path, value and what is allowed, a line for each fault."""
    lines = []
    for fault in error.errors(include_url=False):
        location = fault["loc"]
        path = ".".join(map(str, location)) or model.__name__
        if fault["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown setting (value {fault['input']!r}). {_allowed(model, location)}")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {message} (value {fault['input']!r})")
    return "\n".join(lines)


def _allowed(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """Name the settings that exist where an unknown one was given, the closest spelling first."""
    section: type[BaseModel] = model
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return "Remove it"
        section = annotation
    names = list(section.model_fields)
    close = get_close_matches(str(location[-1]), names, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    return f"{hint}Allowed: {', '.join(names)}"
