"""From AWS's event stream to whole server-sent events.

Around every piece of the model's answer SageMaker puts a frame with lengths and checksums; a piece may end
anywhere. https://docs.aws.amazon.com/sagemaker/latest/dg/runtime-response-stream.html
"""

from collections.abc import AsyncIterator

from botocore.eventstream import EventStreamBuffer, ParserError

from byollm.gateway.errors import broken

MOST_EVENT_BYTES = 2**23


async def payloads(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what is inside the frames of an event stream.

    Raises:
        ApiError: SageMaker tells that the model broke off, or what came is no event stream.
    """
    frames = EventStreamBuffer()
    try:
        async for data in stream:
            frames.add_data(data)
            for frame in frames:
                if frame.headers.get(":message-type") == "event":
                    yield frame.payload
                    continue
                kind = frame.headers.get(":exception-type") or frame.headers.get(":error-code") or "unknown"
                raise broken(str(kind), frame.payload.decode(errors="replace"))
    except ParserError as error:
        raise broken("no event stream", str(error)) from None


async def whole_events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the server-sent events of a text that comes in pieces, only ever whole ones.

    So an error event can follow at any time, and no client sees half a JSON object before it.

    Raises:
        ApiError: the text ends inside an event, or one is too long to be any.
    """
    begun = b""
    async for piece in pieces:
        begun += piece
        if end := _end_of_last(begun):
            yield begun[:end]
            begun = begun[end:]
        if len(begun) > MOST_EVENT_BYTES:
            raise broken("an event without an end")
    if begun.strip():
        raise broken("ended inside an event")


def _end_of_last(text: bytes) -> int:
    """Where the last whole event ends; 0 if there is none. Events end with an empty line."""
    return max(text.rfind(mark) + len(mark) if mark in text else 0 for mark in (b"\n\n", b"\r\n\r\n"))
