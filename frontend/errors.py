"""What can go wrong between the page and the model server, in words for the person at the page."""

from byollm.settings import ByollmError


class PageError(ByollmError):
    """The root of the page's errors; the message says what happened and what to do."""


class StartError(PageError):
    """The page cannot be served as asked."""


class ControlError(PageError):
    """A control holds what cannot be sent."""


class ServerUnreachableError(PageError):
    """Nothing answers at the model server's address."""


class ModelLoadingError(PageError):
    """The model server is there, its model is not yet."""


class ServerFaultError(PageError):
    """The model server answers, but not as it should; or a stream ended before its answer did."""


class RefusedError(PageError):
    """The model server refused the request and said why."""

    def __init__(self, message: str, code: str | None = None):
        super().__init__(message)
        self.code = code

    @property
    def too_long(self) -> bool:
        """Whether the conversation was refused for not fitting into the model's context."""
        return self.code == "context_length_exceeded"
