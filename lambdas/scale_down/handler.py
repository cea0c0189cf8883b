"""Takes the endpoint down to its fewest instances when the budget is spent."""

from typing import Any


def handle(event: dict[str, Any], context: Any) -> None:
    """Take a budget's notice from SNS."""
    raise NotImplementedError
