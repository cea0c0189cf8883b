"""Reads requests' JSON: bounded in size and time, refused with a reason."""

import asyncio
from typing import Any

import pydantic_core
from starlette.requests import Request

from byollm.web.errors import ApiError

BIG = 2**17  # bytes; a larger body is parsed off the event loop
MOST_ELEMENTS = 2**20
MOST_HELD = 8  # bodies of the largest size; what is being read at a time takes no more memory


class BodyReader:
    """Reads request bodies within bounds.

    Args:
        limit: how large a body may be, in bytes.
        timeout_s: how long it may take.
    """

    def __init__(self, limit: int, timeout_s: float) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._held = 0

    async def read(self, request: Request) -> dict[str, Any]:
        """Read and parse the body of `request`, a JSON object; raises as `read_with_source`."""
        return (await self.read_with_source(request))[0]

    async def read_with_source(self, request: Request) -> tuple[dict[str, Any], bytes]:
        """Read the body of `request`, a JSON object; return it with the bytes that it came in.

        Raises:
            ApiError: the body is too large, comes too slowly or is no JSON object, or too much comes at once.
            ClientDisconnect: the client went away meanwhile.
        """
        announced = request.headers.get("content-length", "")
        # The HTTP parser has already refused a length that is no number.
        if announced.isdecimal() and int(announced) > self._limit:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                async for chunk in request.stream():
                    chunks.append(chunk)
                    size += len(chunk)
                    self._held += len(chunk)
                    self._check(size)
            body = b"".join(chunks)
            value = await asyncio.to_thread(parse_json, body) if len(body) > BIG else parse_json(body)
            return value, body
        except TimeoutError:
            message = f"The request's body did not arrive within {self._timeout_s:g} s."
            raise ApiError(408, message, code="timeout", close=True) from None
        finally:
            self._held -= size

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise self._too_large()
        if self._held > MOST_HELD * self._limit:
            message = "The server is reading as many bytes of requests as it may. Try again soon."
            raise ApiError(429, message, code="queue_full", retry_after=1, close=True)

    def _too_large(self) -> ApiError:
        message = f"The request's body is larger than {self._limit} bytes, the most that is accepted."
        return ApiError(413, message, code="too_large", close=True)


def check_elements(body: bytes) -> None:
    """Refuse a body that would become millions of objects; each takes far more memory and time than its text.

    Raises:
        ApiError: it has more than `MOST_ELEMENTS`.
    """
    if _count_openers(body) <= MOST_ELEMENTS:
        return
    # Perhaps they stand in strings. What is escaped can neither end a string nor begin one.
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")
    strings = plain.count(b'"') // 2
    if strings > MOST_ELEMENTS or _count_openers(b"".join(plain.split(b'"')[::2])) > MOST_ELEMENTS:
        message = f"The request's body has more than {MOST_ELEMENTS} elements; send less at a time."
        raise ApiError(400, message, code="too_large")


def _count_openers(text: bytes) -> int:
    """Each element but the first of its list or object follows a comma, and the first follows a bracket."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ApiError: the bytes are no JSON (RFC 8259: UTF-8, no NaN), nest too deeply, or are no object.
    """
    check_elements(body)
    if not body:
        raise ApiError(400, "The request has no body; a JSON object is expected.", code="invalid_json")
    try:
        # A parser with a bound on nesting and on the digits of a number.
        value = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The request's body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        kinds = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
        found = kinds.get(type(value), "a number")
        raise ApiError(400, f"The request's body is {found}; a JSON object is expected.", code="invalid_json")
    return value
