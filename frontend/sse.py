"""Server-sent events out of a stream of bytes (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from collections.abc import AsyncGenerator, AsyncIterator

LONGEST_EVENT = 1 << 20  # bytes; a stream that sends more without an end of line is no event stream


async def events(stream: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """Yield the data of each event; comments, which keep a connection alive, are passed over.

    Splits at line feeds only. `str.splitlines` and with it httpx's `aiter_lines` also break at characters
    such as U+2028, which JSON may carry unescaped inside a string.

    Raises:
        ValueError: a line is longer than any event may be, or is not UTF-8.
    """
    buffer = bytearray()
    data: list[str] = []
    async for piece in stream:
        buffer += piece
        while (end := buffer.find(b"\n")) >= 0:
            line = buffer[:end].decode().removesuffix("\r")
            del buffer[: end + 1]
            if line.startswith("data:"):
                data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and data:
                yield "\n".join(data)
                data = []
        if len(buffer) > LONGEST_EVENT:
            raise ValueError("an event of more than a megabyte")
