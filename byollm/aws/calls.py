"""Calls whose answer may be long, or nothing at all."""

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import ClientError

ABSENT = {"ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException", "NoSuchKey", "404"}


def listed(client: Any, operation: str, key: str, **given: Any) -> Iterator[Any]:
    """Yield what `operation` lists under `key`, page after page."""
    for page in client.get_paginator(operation).paginate(**given):
        yield from page.get(key, ())


def one(describe: Callable[..., dict[str, Any]], **given: Any) -> dict[str, Any] | None:
    """Return what `describe` says of one thing, or None where there is none."""
    try:
        return describe(**given)
    except ClientError as error:
        if is_absent(error):
            return None
        raise


def is_absent(error: ClientError) -> bool:
    """Whether AWS says that what was asked for does not exist; SageMaker says it in words only."""
    fault = error.response.get("Error", {})
    code, message = fault.get("Code", ""), fault.get("Message", "").lower()
    in_words = any(words in message for words in ("could not find", "does not exist", "not found"))
    return code in ABSENT or (code == "ValidationException" and in_words)
