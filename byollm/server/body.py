"""Reads a request's JSON: bounded in size and time, refused with a reason."""

import asyncio
from typing import Any

import pydantic_core
from starlette.requests import Request

from byollm.server.errors import ApiError

BIG = 2**17  # bytes; a larger body is parsed off the event loop


async def read_json(request: Request, limit: int, timeout_s: float) -> dict[str, Any]:
    """Read and parse the body of `request`, a JSON object.

    Args:
        request: the request.
        limit: the largest body, in bytes; a larger one is refused without being read whole.
        timeout_s: how long the client may take to send it.

    Raises:
        ApiError: the body is too large, comes too slowly, or is no JSON object.
        ClientDisconnect: the client went away meanwhile.
    """
    try:
        async with asyncio.timeout(timeout_s):
            body = await _read(request, limit)
    except TimeoutError:
        raise ApiError(
            408, f"The request's body did not arrive within {timeout_s:g} s.", code="timeout", close=True
        ) from None
    return await asyncio.to_thread(parse_json, body) if len(body) > BIG else parse_json(body)


async def _read(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "")
    # The HTTP parser has already refused a length that is no number.
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"The request's body is larger than {limit} bytes, the most that is accepted.",
        code="too_large",
        close=True,
    )


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ApiError: the bytes are no JSON (RFC 8259: UTF-8, no NaN), nest too deeply, or are no object.
    """
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
