"""Takes the endpoint one step nearer to what it should be."""

from typing import Any


def handle(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Take `{"version": arn or null}`; return `{"done", "waiting_for"}`."""
    raise NotImplementedError
