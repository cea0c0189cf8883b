"""Errors of the server; those that a client is answered with are of `byollm.web`."""

from byollm.settings.errors import ByollmError


class ServerError(ByollmError):
    """The root of this package's errors."""
