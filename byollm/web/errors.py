"""Errors of an HTTP server, and the one shape in which clients see them.

The shape is OpenAI's: `{"error": {"message", "type", "param", "code"}}`.
"""

from collections.abc import Mapping

import orjson

from byollm.settings.errors import ByollmError

LONGEST_MESSAGE = 1000
LONGEST_PARAM = 128


class WebError(ByollmError):
    """The root of this package's errors."""


class ApiError(WebError):
    """An error that a client is answered with.

    Args:
        status: the HTTP status.
        message: what was wrong, what was expected, what to do.
        param: the parameter at fault, such as `messages[0].role`.
        code: a word for programs, such as `context_length_exceeded`.
        retry_after: seconds after which the same request may succeed.
        close: the connection cannot be used again, because the rest of the request was not read.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.close = close
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)
        if close:
            self.headers["connection"] = "close"

    def body(self) -> bytes:
        """The error as JSON, bounded in size."""
        return orjson.dumps({"error": self.content()})

    def content(self) -> dict[str, str | None]:
        """What stands under `error`."""
        if self.status == 429:
            kind = "rate_limit_error"
        elif self.status >= 500:
            kind = "server_error"
        else:
            kind = "invalid_request_error"
        return {
            "message": shorten(self.message, LONGEST_MESSAGE),
            "type": kind,
            "param": None if self.param is None else shorten(self.param, LONGEST_PARAM),
            "code": self.code,
        }


def internal_error() -> ApiError:
    """What a client is told of a fault of ours: nothing of its inside."""
    return ApiError(
        500,
        "The server had an error while processing your request. Try again; its log says what happened.",
        code="internal_error",
    )


def shorten(text: str, longest: int) -> str:
    """Cut `text` to `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
