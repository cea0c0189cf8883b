"""What every request passes through: errors in one shape, an id, a count, a guard of loopback."""

import asyncio
import uuid
from collections.abc import Callable
from http import HTTPStatus

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from byollm.web.errors import ApiError, internal_error
from byollm.web.hosts import LoopbackOnly, is_loopback
from byollm.web.replies import error_response


def guard(app: FastAPI, host: str, responded: Callable[[str, int], None]) -> None:
    """Put what every request passes through around `app`.

    Args:
        host: the address that is listened on; on loopback, requests from elsewhere are refused.
        responded: told of each response, by route and status.
    """
    app.add_exception_handler(ApiError, answer_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(ClientDisconnect, answer_nobody)
    app.add_exception_handler(Exception, answer_fault)
    if is_loopback(host):
        app.add_middleware(LoopbackOnly)
    app.add_middleware(Observed, responded=responded)


async def answer_error(request: Request, error: Exception) -> Response:
    """Tell an error in OpenAI's shape."""
    assert isinstance(error, ApiError)
    return error_response(error)


async def answer_fault(request: Request, error: Exception) -> Response:
    """Tell of a fault of ours; what it is goes to the log alone, by way of uvicorn."""
    return error_response(internal_error())


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Tell an unknown route, or a method that a route does not have, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path[:256]}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        message, code = f"Unknown request URL: {where}. See docs/api.md for the routes.", "unknown_url"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        message, code = f"Not allowed: {where}. This route takes {allowed}.", "method_not_allowed"
        return error_response(ApiError(error.status_code, message, code=code, headers={"allow": allowed}))
    else:
        message, code = str(error.detail), "invalid_request"
    return error_response(ApiError(error.status_code, message, code=code, headers=error.headers))


def _methods(request: Request) -> list[str]:
    """Return what the routes of a path take; starlette tells that of the first of them."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


async def answer_nobody(request: Request, error: Exception) -> Response:
    """For a client that went away while it sent its request; nobody reads this."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


class Observed:
    """Notes when each request came, gives it an id, and counts the response by route and status.

    Args:
        app: the application behind.
        responded: told of each response, by route and status.
    """

    def __init__(self, app: ASGIApp, responded: Callable[[str, int], None]) -> None:
        self._app = app
        self._responded = responded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["state"]["arrival"] = asyncio.get_running_loop().time()
        request_id = scope["state"]["request_id"] = uuid.uuid4().hex

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "unknown")
                self._responded(route, message["status"])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        await self._app(scope, receive, watched)
