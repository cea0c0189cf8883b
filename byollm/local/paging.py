"""Answers in pages, as AWS's List and Describe operations give them."""

from collections.abc import Sequence

from byollm.local.protocol import AwsError, Members


def page(
    entries: Sequence[Members], given: Members, error: str = "ValidationException"
) -> tuple[list[Members], Members]:
    """Return the page that `MaxResults` and `NextToken` of a request ask for, and what names the next.

    Args:
        entries: all of them, in an order that does not change between two calls.
        error: the code that the service answers a token with that it did not give.
    """
    try:
        begin = int(given.get("NextToken", "0"))
    except ValueError:
        raise AwsError(error, f"Invalid NextToken: {given['NextToken']!r}") from None
    end = begin + given.get("MaxResults", 100)
    return list(entries[begin:end]), {"NextToken": str(end)} if end < len(entries) else {}
