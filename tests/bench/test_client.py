import socket
import threading
from collections.abc import Iterator

import pytest

from bench.serve import client

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [
    b'data: {"choices":[{"text":"a"}]}\n\n',
    b": keep-alive\n\n",
    b'data: {"choices":[{"text":"b"}]}\n\ndata: {"choices":[{"text":"c"}]}\n\n',
    b'data: {"choices":[],"usage":{"completion_tokens":3}}\n\n',
    b"data: [DONE]\n\n",
]
STREAM = HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS) + b"0\r\n\r\n"
WHOLE = b'{"choices":[{"text":"abc"}],"usage":{"completion_tokens":3}}'
PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE) + WHOLE
)


@pytest.mark.parametrize("size", [1, 2, 7, 64, len(STREAM)])
def test_events_are_counted_however_the_stream_is_cut(size: int) -> None:
    reader = client.Reader()
    for at in range(0, len(STREAM), size):
        assert not reader.done
        reader.feed(STREAM[at : at + size], float(at))
    assert reader.done
    assert reader.status == 200
    assert len(reader.times) == 4  # neither the comment nor the end mark
    assert reader.last == b'{"choices":[],"usage":{"completion_tokens":3}}'


def test_an_event_has_the_time_at_which_its_end_came() -> None:
    reader = client.Reader()
    cut = STREAM.index(b'"b"')
    reader.feed(STREAM[:cut], 1.0)
    reader.feed(STREAM[cut:], 2.0)
    assert reader.times == [1.0, 2.0, 2.0, 2.0]


@pytest.fixture
def port() -> Iterator[int]:
    """A server that streams if asked for a stream, breaks off if asked for trouble, else answers whole."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked = connection.recv(65_536)
                    answer = STREAM if b"stream" in asked else PLAIN
                    connection.sendall(answer[: len(answer) // 2] if b"trouble" in asked else answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_what_was_asked_is_what_is_told(port: int) -> None:
    bodies = [{"stream": True}, {}, {"stream": "trouble"}, {"plain": "trouble"}]
    requests = [(0.05 * number, client.request(port, body)) for number, body in enumerate(bodies)]
    stream, whole, *broken = client.send(port, requests, limit=60)
    assert (stream.status, stream.tokens, len(stream.times)) == (200, 3, 3)
    assert (whole.status, whole.tokens, len(whole.times)) == (200, 3, 1)
    assert [(answer.status, answer.tokens) for answer in broken] == [(0, 0), (0, 0)]
    assert whole.due - stream.due == pytest.approx(0.05)
    assert 0 < whole.seconds < 60


def test_nobody_listening_is_no_answer() -> None:
    with socket.socket() as taken:  # or another might listen there by now, even this client to itself
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert client.send(port, [(0.0, client.request(port, {}))], limit=3600)[0].status == 0


def test_silence_ends_at_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(TimeoutError, match=r"0\.1|no answer"):
            client.send(port, [(0.0, client.request(port, {}))], limit=0.1)
