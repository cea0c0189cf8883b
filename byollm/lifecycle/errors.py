"""What goes wrong with an endpoint."""

from byollm.settings.errors import ByollmError


class LifecycleError(ByollmError):
    """Something about the endpoint, its versions or its removal."""


class EndpointFailed(LifecycleError):  # noqa: N818 - the state machine shows the name to people
    """The endpoint could not be brought up, or a new version was sent back."""


class SmokeTestFailed(LifecycleError):  # noqa: N818
    """The endpoint does not answer a plain question."""
