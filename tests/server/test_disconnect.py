"""Clients that go away, read slowly, or come in crowds."""

import asyncio
import json
import socket
import time
from typing import Any

import httpx
import openai
import pytest

from tests.server.support import ENDLESS, PATIENCE_S, Server, body, wait_for

LONG = {"model": "tiny", "prompt": "hi", "max_tokens": 4000, "ignore_eos": True}


def test_leaving_a_stream_frees_its_blocks(server: Server, client: openai.OpenAI) -> None:
    server.wait_until_idle()
    before = server.metric("request_failure_total", reason="disconnected")
    generated = server.metric("generation_tokens_total")
    with client.completions.create(stream=True, **body(ENDLESS)) as stream:
        next(stream)
        wait_for(lambda: server.metric("num_requests_running") > 1)
    server.wait_until_idle()
    assert server.metric("request_failure_total", reason="disconnected") == before + 1
    assert server.metric("generation_tokens_total") - generated < ENDLESS["n"] * ENDLESS["max_tokens"]


def test_leaving_a_plain_call_frees_its_blocks(server: Server) -> None:
    server.wait_until_idle()
    generated = server.metric("generation_tokens_total")
    asked = ENDLESS | {"prompt": ["a", "b"], "n": ENDLESS["n"] // 2}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/completions", json=asked, timeout=httpx.Timeout(PATIENCE_S, read=0.5))
    server.wait_until_idle()
    assert server.metric("generation_tokens_total") - generated < ENDLESS["n"] * ENDLESS["max_tokens"]


def test_two_hundred_that_time_out_leave_the_next_one_answered(server: Server) -> None:
    async def crowd() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S, limits=limits) as http:

            async def impatient(number: int) -> bool:
                path, body = crowd_asks[number % len(crowd_asks)]
                try:
                    async with asyncio.timeout(1):
                        await http.post(path, json=body | {"stream": number % 2 == 0})
                except TimeoutError:
                    return True
                return False

            assert all(await asyncio.gather(*map(impatient, range(200))))

    chat = {"messages": [{"role": "user", "content": "hi"}], "ignore_eos": True, "model": "tiny"}
    crowd_asks: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", LONG),
        ("/v1/chat/completions", chat),
        (
            "/v1/completions",
            LONG | {"prompt": "the cat " * 400, "max_tokens": 3000, "echo": True, "logprobs": 1},
        ),
        ("/v1/completions", LONG | {"ignore_eos": False, "structured_outputs": {"regex": "[ab]{3500}"}}),
    ]
    asyncio.run(crowd())
    answer = httpx.post(f"{server.url}/v1/completions", json=LONG | {"max_tokens": 2}, timeout=PATIENCE_S)
    assert answer.status_code == 200
    server.wait_until_idle()


def test_a_reader_that_does_not_read_holds_up_nobody(server: Server) -> None:
    asked = json.dumps(ENDLESS | {"stream": True, "n": 32, "logprobs": 5}).encode()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(asked)
            + asked
        )
        wait_for(lambda: server.metric("num_requests_running") == 32)
        time.sleep(1)
        answer = httpx.post(
            f"{server.url}/v1/completions", json=LONG | {"max_tokens": 20}, timeout=PATIENCE_S
        )
        assert answer.status_code == 200
        assert server.ping() == 200
    server.wait_until_idle()
