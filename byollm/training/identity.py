"""Whether a run in a directory is the one that is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byollm.settings.training import Recipe
from byollm.training.errors import ResumeError

# these may change between one part of a run and the next
FREE = {"checkpoint_minutes", "threads", "device", "precision", "compile"}


def identity_of(command: str, recipe: Recipe, **inputs: Any) -> dict[str, Any]:
    """Return what defines a run: the command, the settings that matter to its result, and its inputs."""
    return {"command": command, "settings": recipe.model_dump(mode="json", exclude=FREE), **inputs}


def check_identity(found: Mapping[str, Any], asked: Mapping[str, Any], run: Path) -> None:
    """Refuse to continue a run that is not the one asked for.

    Raises:
        ResumeError: names every difference.
    """
    then, now = _flat(found), _flat(asked)
    differences = [
        f"{name} is {now.get(name, 'absent')}, the run has {then.get(name, 'absent')}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    if differences:
        raise ResumeError(
            f"{run} holds another run: {'; '.join(differences)}. Ask for the same to continue it, or choose "
            "another --out for a new run."
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
