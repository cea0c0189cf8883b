"""A client of OpenAI's completions that costs next to nothing: it shares its cores with what it measures.

One thread, one selector, one connection a request. Of what streams in, only the events are counted; the last
of them says how many tokens there were.
"""

import contextlib
import json
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

END = b"[DONE]"
READ = 65_536


class Reader:
    """Reads one HTTP/1.1 response, whole or server-sent events, as it comes in.

    Attributes:
        status: 0 until the head has come.
        times: when each event came; of a whole answer, when it was complete.
        last: the data of the last event, or the whole body.
        done: whether the response is complete.
    """

    def __init__(self) -> None:
        self.status = 0
        self.times: list[float] = []
        self.last = b""
        self.done = False
        self._raw = b""  # not taken apart yet
        self._text = b""  # of the body, not yet a whole event
        self._chunked = self._events = False
        self._left = 0  # bytes of the body to come, where its length was told

    def feed(self, data: bytes, now: float) -> None:
        """Take in what came at a time; nothing means that the connection was closed."""
        self._raw += data
        if not self.status and not self._read_head():
            return
        self._text += self._body()
        if self._events:
            *events, self._text = self._text.split(b"\n\n")
            for event in events:
                payload = event.removeprefix(b"data:").strip()
                if len(payload) < len(event) and payload != END:  # else a comment, or the end mark
                    self.times.append(now)
                    self.last = payload
        elif self.done:
            self.times, self.last = [now], self._text

    def _read_head(self) -> bool:
        head, found, rest = self._raw.partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self.status = int(lines[0].split()[1])
        self._events = fields.get("content-type", "").startswith("text/event-stream")
        self._chunked = fields.get("transfer-encoding", "") == "chunked"
        self._left = int(fields.get("content-length", 0))
        self._raw = rest
        return True

    def _body(self) -> bytes:
        if not self._chunked:
            body, self._raw = self._raw, b""
            self._left -= len(body)
            self.done = self._left <= 0
            return body
        parts, at = [], 0
        while (line := self._raw.find(b"\r\n", at)) >= 0:
            size = int(self._raw[at:line], 16)
            end = line + 2 + size
            if len(self._raw) < end + 2:
                break
            parts.append(self._raw[line + 2 : end])
            self.done = size == 0
            at = end + 2
        self._raw = self._raw[at:]
        return b"".join(parts)


@dataclass(frozen=True)
class Answer:
    """What became of a request.

    Attributes:
        due: when it was to be sent, by time.perf_counter.
        times: when something came: each event with text, or the whole answer.
        status: of HTTP; 0 if the connection broke before the answer was complete.
        tokens: of the answer, as the server counts them.
    """

    due: float
    times: list[float]
    status: int
    tokens: int

    @property
    def seconds(self) -> float:
        """From when it was due to the last that came."""
        return self.times[-1] - self.due


def request(port: int, body: dict[str, Any]) -> bytes:
    """The bytes of a completion request."""
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def send(port: int, requests: Sequence[tuple[float, bytes]], limit: float) -> list[Answer]:
    """Send each request at its time, in seconds from now and ascending, and read all answers.

    Raises:
        TimeoutError: they did not come within `limit` seconds.
    """
    start = time.perf_counter()
    waiting = deque((start + delay, message, Reader()) for delay, message in requests)
    sent = list(waiting)
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            now = time.perf_counter()
            if now > start + limit:
                raise TimeoutError(f"no answer within {limit:.0f} s")
            while waiting and waiting[0][0] <= now:
                _, message, reader = waiting.popleft()
                with contextlib.suppress(OSError):
                    connection = socket.create_connection(("127.0.0.1", port))
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.sendall(message)
                    selector.register(connection, selectors.EVENT_READ, reader)
            if waiting or selector.get_map():  # else all connections were refused
                pause = (waiting[0][0] if waiting else start + limit) - time.perf_counter()
                for key, _ in selector.select(max(0.0, pause)):
                    _receive(selector, key)
    return [_answer(due, reader) for due, _, reader in sent]


def _receive(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    connection, reader = key.fileobj, key.data
    assert isinstance(connection, socket.socket)
    try:
        data = connection.recv(READ)
    except ConnectionError:
        data = b""
    if data:
        reader.feed(data, time.perf_counter())
    if reader.done or not data:
        selector.unregister(connection)
        connection.close()


def _answer(due: float, reader: Reader) -> Answer:
    if not reader.done or reader.status != 200:
        return Answer(due, [], reader.status if reader.done else 0, 0)
    last = json.loads(reader.last)
    # What counts the tokens of a stream is an event of its own, without text.
    times = reader.times if last["choices"] else reader.times[:-1]
    return Answer(due, times, reader.status, last["usage"]["completion_tokens"])
