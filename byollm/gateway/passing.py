"""Passing one call to the endpoint and its answer back, whole or as a stream."""

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from byollm.gateway.errors import SOON_S, too_late
from byollm.gateway.metrics import Metrics
from byollm.gateway.runtime import Runtime
from byollm.settings import GatewaySettings
from byollm.web.body import MOST_HELD
from byollm.web.disconnect import ClientGoneError, unless_disconnected
from byollm.web.errors import ApiError
from byollm.web.streams import EventStream, send_json

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 10.0


class Passage:
    """The way to the endpoint, which so many requests take at a time.

    Args:
        runtime: calls the endpoint.
        settings: the bounds.
        metrics: where to count.
    """

    def __init__(self, runtime: Runtime, settings: GatewaySettings, metrics: Metrics) -> None:
        self.runtime, self.settings, self.metrics = runtime, settings, metrics
        self.running = 0
        self.answered = -math.inf  # when the endpoint last answered a call, by `time.monotonic`
        self._held = 0

    @contextmanager
    def admission(self, size: int) -> Iterator[None]:
        """Hold a place, and memory for a body of `size` bytes, while a request is under way.

        Raises:
            ApiError: there is none left.
        """
        most = MOST_HELD * self.settings.max_body_bytes
        if self.running >= self.settings.max_requests or self._held + size > most:
            message = f"The gateway passes {self.running} requests on, as many as it may. Try again soon."
            raise ApiError(503, message, code="overloaded", retry_after=SOON_S)
        self.running += 1
        self._held += size
        try:
            yield
        finally:
            self.running -= 1
            self._held -= size


class Passing(Response):
    """The response to one call, made as it is sent. A client that goes away ends the call behind.

    Args:
        passage: the way to the endpoint.
        body: what the client sent, handed on byte for byte.
        stream: whether the answer comes as server-sent events.
    """

    def __init__(self, passage: Passage, body: bytes, stream: bool) -> None:
        super().__init__()
        self._passage, self._body, self._stream = passage, body, stream
        self._metrics = passage.metrics
        self._outcome = "failed"
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the endpoint and send what it answers, as an ASGI application."""
        request_id: str = scope["state"]["request_id"]
        began = time.monotonic()
        try:
            with self._passage.admission(len(self._body)):
                answer = self._answer_as_stream if self._stream else self._answer_whole
                await unless_disconnected(receive, answer(send, request_id, began))
        except ClientGoneError:
            self._outcome = "disconnected"
        except ApiError as error:
            self._outcome = str(error.status)
            raise
        finally:
            seconds = time.monotonic() - began
            self._metrics.ended(self._outcome, seconds)
            # What was asked and answered is nobody's business here: sizes only.
            log.info(
                "request",
                extra={
                    "request_id": request_id,
                    "route": scope["path"],
                    "stream": self._stream,
                    "outcome": self._outcome,
                    "seconds": round(seconds, 3),
                    "bytes_in": len(self._body),
                    "bytes_out": self._bytes,
                },
            )

    async def _answer_whole(self, send: Send, request_id: str, began: float) -> None:
        whole = await self._passage.runtime.invoke(self._body, request_id)
        self._begins(began)
        self._bytes = len(whole)
        await send_json(send, whole)
        self._outcome = "complete"

    def _begins(self, began: float) -> None:
        """Note that the answer to a call of the time `began` is there, or begins."""
        self._passage.answered = time.monotonic()
        self._metrics.first_byte.observe(self._passage.answered - began)

    async def _answer_as_stream(self, send: Send, request_id: str, began: float) -> None:
        patience = self._passage.settings.stream_timeout_s
        async with EventStream(send, KEEP_ALIVE_S) as stream:
            try:
                async with (
                    asyncio.timeout(patience),
                    aclosing(self._passage.runtime.stream(self._body, request_id)) as answer,
                ):
                    async for events in answer:
                        if not self._bytes:
                            self._begins(began)
                        self._bytes += len(events)
                        await stream.write(events)
                await stream.write(b"", last=True)
                self._outcome = "complete"
            except (ApiError, TimeoutError) as error:
                told = error if isinstance(error, ApiError) else too_late(patience)
                if not stream.started:
                    raise told from None
                self._outcome = str(told.status)
                await stream.fail(told)
