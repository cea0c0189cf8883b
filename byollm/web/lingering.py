"""A response whose connection closes only once the client has stopped sending."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

IDLE_S = 5.0  # a client that shares a busy machine may pause as long
LINGER_S = 30.0


class LingeringResponse(Response):
    """A response to a request that was not read to its end.

    To close at once would reset the connection while the client is still sending, and most clients then never
    see the response. So what still comes is thrown away (RFC 9112, section 9.6), for `LINGER_S` seconds or
    until nothing came for `IDLE_S`.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then discard what the client still sends."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(LINGER_S):
                while await _more(receive):
                    pass
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _more(receive: Receive) -> bool:
    """Wait for a piece of the request; return whether another may follow."""
    async with asyncio.timeout(IDLE_S):
        message = await receive()
    return message["type"] == "http.request" and bool(message.get("more_body"))
