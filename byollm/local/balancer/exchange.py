"""One request handed on to a target, and its answer handed back as it comes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

import httpx
from starlette.types import Receive, Scope, Send

from byollm.local.balancer.targets import Target

Headers = list[tuple[bytes, bytes]]

# What belongs to one connection and not to the message. https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
HOP_BY_HOP = {
    b"connection",
    b"expect",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
CONNECT_S = 10.0


class ClientGoneError(Exception):
    """The client has closed its connection."""


class BadAnswerError(Exception):
    """The target did not answer: `status` is what the client gets instead."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def make_transport() -> httpx.AsyncHTTPTransport:
    """Return the way to targets. It keeps no connection, and so uses none that a target has just closed."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncHTTPTransport(limits=limits, trust_env=False)


class Exchange:
    """A request under way.

    Args:
        idle_s: how long nothing may come from either side; None is for ever.

    `status` and `began_at` (on the monotonic clock) are the target's answer's, once it has begun.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, idle_s: float | None) -> None:
        self._scope, self._receive, self._send, self._idle_s = scope, receive, send, idle_s
        self._sent_all = asyncio.Event()
        self.status: int | None = None
        self.began_at: float | None = None

    async def relay(
        self, way: httpx.AsyncBaseTransport, target: Target, headers: Headers, added: Headers
    ) -> None:
        """Hand the request on and the answer back.

        Args:
            headers: of the request to the target.
            added: to the target's answer.

        Raises:
            BadAnswerError: the target gave no answer that could be begun.
            ClientGoneError: nobody waits for the answer any more; the target's connection is closed.
        """
        work = asyncio.create_task(self._relay(way, target, headers, added))
        gone = asyncio.create_task(self._gone())
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientGoneError
            await work
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _relay(
        self, way: httpx.AsyncBaseTransport, target: Target, headers: Headers, added: Headers
    ) -> None:
        path, query = self._scope["raw_path"], self._scope["query_string"]
        address = httpx.URL(
            scheme="http", host=target.id, port=target.port, raw_path=path + b"?" * bool(query) + query
        )
        names = {name for name, _ in self._scope["headers"]}
        has_body = bool(names & {b"content-length", b"transfer-encoding"})
        request = httpx.Request(
            self._scope["method"], address, headers=headers, content=self._upload() if has_body else None
        )
        if not has_body:
            await self._receive()
            self._sent_all.set()
        request.extensions["timeout"] = httpx.Timeout(self._idle_s, connect=CONNECT_S).as_dict()
        try:
            answer = await way.handle_async_request(request)
        except httpx.TimeoutException:
            raise BadAnswerError(504) from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise BadAnswerError(502) from None
        try:
            await self._hand_back(answer, added)
        finally:
            await answer.aclose()

    async def _hand_back(self, answer: httpx.Response, added: Headers) -> None:
        self.status, self.began_at = answer.status_code, time.monotonic()
        headers = [*end_to_end(answer.headers.raw), *added]
        await self._send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        async for chunk in answer.aiter_raw():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _upload(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            try:
                message = await asyncio.wait_for(self._receive(), self._idle_s)
            except TimeoutError:
                raise BadAnswerError(408) from None
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            yield message.get("body", b"")
            more = message.get("more_body", False)
        self._sent_all.set()

    async def _gone(self) -> None:
        await self._sent_all.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers that are the message's and not the connection's."""
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]


async def answer(send: Send, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
    """Answer in the balancer's own name."""
    own = [(b"server", b"awselb/2.0"), (b"content-length", str(len(body)).encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})
