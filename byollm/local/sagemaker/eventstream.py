"""AWS's event stream: frames of headers and payload, each with its checksums.

https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html#streaming-event-stream
"""

import json
import struct
from binascii import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_STRING = 7


def payload_part(data: bytes) -> bytes:
    """Frame a piece of the answer."""
    headers = {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    return _frame(headers, data)


def stream_exception(kind: str, **members: str) -> bytes:
    """Frame the error that ends a stream, such as `ModelStreamError`."""
    headers = {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}
    return _frame(headers, json.dumps(members).encode())


def _frame(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b"".join(
        bytes([len(name)]) + name.encode() + struct.pack(">BH", _STRING, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack(">I", crc32(prelude)) + packed + payload
    return message + struct.pack(">I", crc32(message))
