"""HTTP itself, spoken over raw sockets where a client library would be too polite."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import pytest

from tests.server.support import PATIENCE_S, Server

BODY = json.dumps({"model": "tiny", "prompt": "hi", "max_tokens": 3}).encode()


@pytest.fixture
def raw(server: Server) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    received = b""
    while data := connection.recv(65536):
        received += data
    return received


def post(path: str, length: int | None, *headers: str) -> bytes:
    sized = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: localhost", sized, *headers, "\r\n"]).encode()


def test_a_body_announced_too_large_is_refused_before_it_comes(raw: socket.socket) -> None:
    raw.sendall(post("/v1/completions", 2**40))
    answer = read_all(raw)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["code"] == "too_large"


def test_a_body_that_grows_too_large_is_cut_off(raw: socket.socket) -> None:
    raw.sendall(post("/v1/completions", None))
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with suppress(ConnectionError):  # it may close before all is sent
        for _ in range(20):
            raw.sendall(chunk)
    assert raw.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_all_of_a_large_body_sees_the_refusal(server: Server) -> None:
    response = httpx.post(f"{server.url}/v1/completions", content=b"x" * 3_000_000, timeout=PATIENCE_S)
    assert response.status_code == 413


def test_a_client_that_asks_first_is_refused_without_sending(raw: socket.socket) -> None:
    raw.sendall(post("/v1/completions", 2**30, "expect: 100-continue"))
    assert raw.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_small_pieces_is_put_together(raw: socket.socket) -> None:
    raw.sendall(post("/v1/completions", len(BODY), "connection: close"))
    for position in range(0, len(BODY), 7):
        raw.sendall(BODY[position : position + 7])
        time.sleep(0.001)
    assert read_all(raw).startswith(b"HTTP/1.1 200 ")


def test_an_offer_of_http_2_is_passed_over_and_the_body_read(raw: socket.socket) -> None:
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAB")
    for _ in range(2):  # on one connection, as Java's client sends it
        raw.sendall(post("/v1/completions", len(BODY), *offer) + BODY)
        head, _, body = raw.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        while not body.endswith(b"}"):
            body += raw.recv(65536)
        assert json.loads(body)["choices"][0]["finish_reason"] == "length"


def test_what_is_no_http_is_refused_in_the_same_shape(raw: socket.socket) -> None:
    raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    head, body = read_all(raw).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_http"


def test_headers_without_end_are_refused(raw: socket.socket) -> None:
    raw.sendall(b"GET /ping HTTP/1.1\r\nhost: localhost\r\nx: ")
    with pytest.raises(ConnectionError):
        raw.sendall(b"x" * 100_000_000)


def test_headers_are_refused_that_are_too_long_and_come_at_once(raw: socket.socket) -> None:
    raw.sendall(b"GET /ping HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * 2**16 + b"\r\n\r\n")
    head, body = read_all(raw).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["error"]["code"] == "too_large"


def test_many_requests_share_a_connection(raw: socket.socket) -> None:
    raw.sendall((post("/v1/completions", len(BODY)) + BODY) * 3 + post("/ping", 0, "connection: close"))
    answers = read_all(raw)
    assert answers.count(b"HTTP/1.1 200 ") == 3
    assert answers.count(b"HTTP/1.1 405 ") == 1


def test_a_stream_is_data_and_comments_and_an_end_mark(server: Server) -> None:
    with httpx.stream(
        "POST", f"{server.url}/v1/completions", json=json.loads(BODY) | {"stream": True}, timeout=60
    ) as response:
        text = response.read().decode()
    assert text.endswith("data: [DONE]\n\n")
    blocks = text.removesuffix("\n\n").split("\n\n")
    assert all(block == ": keep-alive" or block.startswith("data: ") for block in blocks)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost"}, 200),
        ({"host": "LOCALHOST.:8080"}, 200),
        ({"host": "127.0.0.1:1"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"host": "tenant.localhost"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "localhost@evil.example"}, 403),
        ({"host": "0.0.0.0"}, 403),
        ({"host": "["}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost", "origin": "http://localhost:7860"}, 200),
        ({"host": "localhost", "origin": "https://evil.example"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
    ],
)
def test_a_loopback_server_takes_no_foreign_names(
    server: Server, headers: dict[str, str], status: int
) -> None:
    response = httpx.get(f"{server.url}/ping", headers=headers, timeout=PATIENCE_S)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers
