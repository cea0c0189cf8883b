"""One call of a container, and what may go wrong with it, in the runtime's words."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from byollm.local.protocol import Members
from byollm.local.sagemaker.eventstream import payload_part, stream_exception
from byollm.local.sagemaker.instance import Instance

CALL_S = 60.0  # real seconds, as clients count them
STREAM_S = 480.0
ANSWER_BYTES = 25 * 2**20
MESSAGE_BYTES = 8 * 2**10
FAILED = 500
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency "
    "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)


class InvocationError(Exception):
    """What a client of the runtime gets as `ClientError`.

    Args:
        status: of the HTTP answer.
        code: such as `ModelError`.
        message: a sentence.
        members: what the error has beside its message.
    """

    def __init__(self, status: int, code: str, message: str, **members: object) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.body: Members = {"Message": message, "message": message, **members}


class Invocation:
    """One request on its way to an instance; to be closed, which ends the container's work on it.

    Args:
        instance: that gets it.
        body: of the request.
        headers: that the container is to see.
        faults: makes a ModelError from the container's status (0 where it did not answer) and message.
        ended: told the container's status (500 where it failed to answer, 0 where nobody waited for it) and
            how long it took.
    """

    def __init__(
        self,
        instance: Instance,
        body: bytes,
        headers: Mapping[str, str],
        faults: Callable[[int, str], InvocationError],
        ended: Callable[[int, float], None],
    ) -> None:
        self._instance, self._body, self._headers = instance, body, headers
        self._faults, self._ended = faults, ended
        self._began = time.monotonic()
        self._status = 0
        self._answer: httpx.Response | None = None
        self._closed = False
        instance.outstanding += 1

    async def open(self) -> httpx.Headers:
        """Send the request; return the headers of a good answer as soon as they are there.

        Raises:
            InvocationError: the container refused, failed, died or took too long.
        """
        http = self._instance.http
        request = http.build_request(
            "POST", "/invocations", content=self._body, headers=self._headers, timeout=None
        )
        with self._faults_of_the_container():
            async with self._within(CALL_S):
                self._answer = await http.send(request, stream=True)
            self._status = self._answer.status_code
            if not self._answer.is_success:
                content = await self._read()
                raise self._faults(self._status, content[:MESSAGE_BYTES].decode(errors="replace"))
        return self._answer.headers

    async def content(self) -> bytes:
        """Return the whole of a good answer.

        Raises:
            InvocationError: the container died, took too long, or has too much to say.
        """
        with self._faults_of_the_container():
            return await self._read()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield a good answer as frames of an event stream; what goes wrong now is the last of them."""
        assert self._answer is not None
        chunks = self._answer.aiter_raw()
        while True:
            try:
                async with self._within(STREAM_S):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                self._status = FAILED
                message = f"The model took longer than {STREAM_S:.0f} seconds to stream its answer."
                yield stream_exception(
                    "ModelStreamError", Message=message, ErrorCode="ModelInvocationTimeExceeded"
                )
                return
            except httpx.HTTPError:
                self._status = FAILED
                message = "The connection to the model container broke while it streamed its answer."
                yield stream_exception("ModelStreamError", Message=message, ErrorCode="StreamBroken")
                return
            if chunk is None:
                return
            yield payload_part(chunk)

    async def aclose(self) -> None:
        """Close the request; the container sees that nobody listens any more."""
        if self._closed:
            return
        self._closed = True
        self._instance.outstanding -= 1
        self._ended(self._status, time.monotonic() - self._began)
        if self._answer is not None:
            await self._answer.aclose()

    def _within(self, seconds: float) -> asyncio.Timeout:
        left = self._began + seconds - time.monotonic()
        return asyncio.timeout(max(0.0, left))

    async def _read(self) -> bytes:
        assert self._answer is not None
        content = bytearray()
        async with self._within(CALL_S):
            async for chunk in self._answer.aiter_raw():
                content += chunk
                if len(content) > ANSWER_BYTES:
                    raise self._faults(500, f"The answer is longer than {ANSWER_BYTES} bytes.")
        return bytes(content)

    @contextmanager
    def _faults_of_the_container(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self._status = FAILED
            raise self._faults(0, TIMED_OUT) from None
        except httpx.HTTPError:
            self._status = FAILED
            message = "The model container ended before it had answered."
            raise InvocationError(500, "InternalFailure", message) from None
