"""The data floor's errors."""

from byollm.settings import ByollmError


class DataError(ByollmError):
    """Data cannot be read, written or used; the message says which, why, and what to do."""
