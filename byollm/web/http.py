"""Uvicorn's HTTP protocol with bounds on a request's head, and errors in the one shape of this server."""

import asyncio
import re
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from byollm.web.errors import ApiError

MOST_HEAD_BYTES = 2**16
HEAD_S = 30.0
_UPGRADE = re.compile(rb"(?i)(?<=\r\n)upgrade(?=[ \t]*:)")


class HttpProtocol(HttpToolsProtocol):
    """One connection. A head that is too long, comes too slowly or is no HTTP ends it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._head_bytes = 0
        self._in_head = self._between = True
        self._clock = self.loop.call_later(HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clock.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._clock.cancel()
        self._clock = self.loop.call_later(HEAD_S, self.transport.close)
        self._head_bytes = 0
        self._in_head = True

    def on_headers_complete(self) -> None:
        """The head of a request is there; its body has bounds of its own.

        Raises:
            ApiError: it came at once, and is too long; the parser stops then.
        """
        self._clock.cancel()
        self._in_head = self._between = False
        self._head_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._head_bytes > MOST_HEAD_BYTES:
            raise too_long()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request has come whole."""
        super().on_message_complete()
        self._between = True

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the head has grown too long."""
        super().data_received(_without_upgrade(data) if self._between else data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(too_long())

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or a head at which the parser was stopped."""
        stopped = self._head_bytes > MOST_HEAD_BYTES
        self._refuse(too_long() if stopped else ApiError(400, msg, code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        body = error.body()
        self.transport.write(
            STATUS_LINE[error.status]
            + b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            + body
        )
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """Take the word `Upgrade` out of a head: nobody gets an upgrade here (RFC 9110, section 7.8).

    Java's client offers HTTP/2 so with every request, and the parser would take the body for that protocol.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"x-upgrade", head) + end + body


def too_long() -> ApiError:
    """The error for a head that is too long."""
    return ApiError(431, f"The request's headers are longer than {MOST_HEAD_BYTES} bytes.", code="too_large")
