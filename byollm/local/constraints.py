"""What AWS checks of a request that botocore's own validator leaves to it: values that must be of a set."""

from collections.abc import Iterator
from typing import Any

from botocore.model import Shape


def violations(shape: Shape, value: Any, path: str = "") -> Iterator[str]:
    """Yield, in AWS's words, which members have a value that is none of those allowed.

    Args:
        shape: of the input, for which `value` is valid otherwise.
        path: of the value in it.
    """
    if shape.type_name == "structure":
        for name, member in value.items():
            if name in shape.members:
                yield from violations(shape.members[name], member, _join(path, name[:1].lower() + name[1:]))
    elif shape.type_name == "list":
        for number, member in enumerate(value, 1):
            yield from violations(shape.member, member, f"{path}.{number}.member")
    elif shape.type_name == "map":
        for name, member in value.items():
            yield from violations(shape.value, member, f"{path}.{name}.member")
    elif shape.type_name == "string" and shape.enum and value not in shape.enum:
        yield (
            f"Value '{value}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
