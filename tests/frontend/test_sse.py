import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from frontend.sse import LONGEST_EVENT, events


def parse(*pieces: bytes) -> list[str]:
    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def gather() -> list[str]:
        return [event async for event in events(stream())]

    with ThreadPoolExecutor(1) as other:  # this thread may hold the loop of the browser
        return other.submit(asyncio.run, gather()).result()


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_events_do_not_depend_on_how_the_bytes_arrive(size: int) -> None:
    stream = 'data: {"a": "ü\u2028\x85"}\r\n\r\n: keep-alive\n\nevent: x\ndata: one\ndata: two\n\n'.encode()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert parse(*pieces) == ['{"a": "ü\u2028\x85"}', "one\ntwo"]


def test_event_that_is_cut_off_is_not_an_event() -> None:
    assert parse(b"data: whole\n\ndata: half") == ["whole"]


def test_endless_line_is_refused() -> None:
    with pytest.raises(ValueError, match="megabyte"):
        parse(b"data: ", b"x" * LONGEST_EVENT)
