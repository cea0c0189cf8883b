"""Asks the endpoint a question."""

from typing import Any


def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take `{"version"}`; return `{"answer", "seconds"}`."""
    raise NotImplementedError
