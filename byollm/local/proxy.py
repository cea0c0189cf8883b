"""Requests handed on to a child process through its socket, and its answers back, as they come."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from byollm.web.lingering import LingeringResponse

# What belongs to one connection and not to the message.
# https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
_OF_THE_CONNECTION = frozenset(
    {b"connection", b"expect", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
_ONCE = frozenset({b"date", b"server"})
MAX_BODY = 5 * 2**30  # the largest object that S3 takes in one request


class Proxy:
    """An ASGI app that hands every request on to the HTTP server at a Unix socket.

    Args:
        socket: its path.
        max_body: bytes of a request above which it is refused.
    """

    def __init__(self, socket: Path, max_body: int = MAX_BODY) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_connections=None)),
            timeout=httpx.Timeout(None, connect=5),
            trust_env=False,
        )
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request on; 503 where nothing answers, 413 where its body is too long."""
        request = Request(scope, receive)
        if int(request.headers.get("content-length") or 0) > self._max_body:
            await _too_long()(scope, receive, send)
            return
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        outgoing = self._client.build_request(
            request.method,
            # The path as it was signed and escaped, which no library may write in another way.
            httpx.URL("http://localhost").copy_with(raw_path=target),
            headers=_end_to_end(scope["headers"]),
            content=self._body(request) if _has_body(request) else None,
        )
        try:
            answer = await self._client.send(outgoing, stream=True)
        except _TooLongError:
            response: Response = _too_long()
        except ClientDisconnect:
            return
        except httpx.TransportError as error:
            said = f"the emulated AWS does not answer, try again: {error}\n"
            response = Response(said, 503, media_type="text/plain")
        else:
            response = StreamingResponse(_chunks(answer), answer.status_code)
            # The front writes these itself; with two dates, clients cannot tell the time.
            once = _end_to_end(answer.headers.raw)
            response.raw_headers = [(name, value) for name, value in once if name.lower() not in _ONCE]
        await response(scope, receive, send)

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in request.stream():
            length += len(chunk)
            if length > self._max_body:
                raise _TooLongError
            yield chunk

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()


class _TooLongError(Exception):
    pass


async def _chunks(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers


def _end_to_end(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in _OF_THE_CONNECTION]


def _too_long() -> Response:
    return LingeringResponse("the body is too long\n", 413, {"connection": "close"}, "text/plain")
