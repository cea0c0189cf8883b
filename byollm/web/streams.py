"""The HTTP side of a long answer: server-sent events."""

import asyncio
import contextlib

from starlette.types import Send

from byollm.web.errors import ApiError

KEEP_ALIVE = b": keep-alive\n\n"
LAST_WORDS_S = 1.0  # how long a client that does not read may delay the end of its stream

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would collect the events otherwise
]


async def send_json(send: Send, body: bytes) -> None:
    """Send a whole answer."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def event(data: bytes) -> bytes:
    """A server-sent event (WHATWG HTML, section 9.2) with `data` on its one line."""
    return b"data: " + data + b"\n\n"


class EventStream:
    """A response of server-sent events.

    It begins with its first event, so that a request that fails before gets a status of its own; or when
    `keep_alive_s` have passed without one.

    Args:
        send: the ASGI callable.
        keep_alive_s: after this long without an event, a comment is sent.
    """

    def __init__(self, send: Send, keep_alive_s: float) -> None:
        self._send = send
        self._keep_alive_s = keep_alive_s
        self._last = asyncio.get_running_loop().time()
        self._lock = asyncio.Lock()
        self._comments: asyncio.Task[None] | None = None
        self._ended = False
        self.started = False

    async def __aenter__(self) -> "EventStream":
        self._comments = asyncio.create_task(self._comment())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._comments is not None:
            self._comments.cancel()

    async def write(self, events: bytes, last: bool = False) -> None:
        """Send whole events; waits while the client does not read."""
        async with self._lock:
            if self._ended:
                return
            if not self.started:
                self.started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._send({"type": "http.response.body", "body": events, "more_body": not last})
            self._ended = last
            self._last = asyncio.get_running_loop().time()

    async def fail(self, error: ApiError) -> None:
        """End the stream with an error instead of the end mark."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self.write(event(error.body()), last=True)

    async def _comment(self) -> None:
        """Send a comment whenever nothing else was sent for a while."""
        while True:
            silent = asyncio.get_running_loop().time() - self._last
            if silent >= self._keep_alive_s and not self._lock.locked():
                await self.write(KEEP_ALIVE)
                silent = 0.0
            await asyncio.sleep(max(self._keep_alive_s - silent, self._keep_alive_s / 10))
