"""Responses in JSON, errors among them."""

import asyncio
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from byollm.web.errors import ApiError

LINGER_S = 2.0


def json_response(value: Any, status: int = 200) -> Response:
    """A response with `value` as JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """The response that tells an error."""
    kind = LingeringResponse if error.close else Response
    return kind(error.body(), error.status, error.headers, media_type="application/json")


class LingeringResponse(Response):
    """A response to a request that was not read to its end.

    To close at once would reset the connection while the client is still sending, and most clients then never
    see the response. So what still comes is thrown away for a moment (RFC 9112, section 9.6).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then discard what the client still sends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_S):
                while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
