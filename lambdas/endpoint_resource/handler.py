"""The endpoint as a custom resource of CloudFormation."""

from typing import Any


def handle(event: dict[str, Any], context: Any) -> None:
    """Take CloudFormation's request and answer it at the address that it names."""
    raise NotImplementedError
