"""Marks a version of the model approved or rejected."""

from typing import Any


def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take `{"version", "approved", "reason"}`; return nothing."""
    raise NotImplementedError
