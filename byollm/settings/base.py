"""What every section of the settings tree shares."""

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
            raise SettingsError(explain(error)) from None


def explain(error: ValidationError, prefix: str = "") -> str:
    """Describe a validation error for people: path, value, what is allowed, one line a fault."""
    lines = []
    for fault in error.errors(include_url=False):
        path = ".".join([prefix, *map(str, fault["loc"])] if prefix else map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            lines.append(f"{path or 'settings'}: unknown setting (value {fault['input']!r})")
        else:
            lines.append(f"{path or 'settings'}: {fault['msg']} (value {fault['input']!r})")
    return "\n".join(lines)
