"""Registers a version of the model."""

from typing import Any


def handle(event: dict[str, Any], context: Any) -> dict[str, str]:
    """Take `{"image", "model", "variant"}`; return `{"version"}`, the ARN of its model package."""
    raise NotImplementedError
