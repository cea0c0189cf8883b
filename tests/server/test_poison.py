"""What the world throws at a server: it refuses by name or answers, goes on, and keeps its memory."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.support import PATIENCE_S, Server, serving, wait_for

CACHE = 48 * 16  # tokens that the small cache holds
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def small(model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes large bodies and has a small cache."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with serving(model_directory, log, engine__cache_blocks=CACHE // 16, engine__max_running=16) as server:
        yield server


def text(prompt: Any, **changes: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": 3} | changes


def chat(content: Any, **changes: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 3} | changes


def schema(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        inner = {"type": "object", "properties": {"a": inner}, "required": ["a"]}
    return inner


def rules(structured: dict[str, Any]) -> dict[str, Any]:
    return chat("hi", structured_outputs=structured)


LARGE: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/completions", text("rain " * 2 * MEGABYTE), "prompt"),
    ("/v1/completions", text("x" * 10 * MEGABYTE), "prompt"),
    ("/v1/completions", text([5] * (MEGABYTE - 8)), "prompt"),
    ("/v1/chat/completions", chat("好" * 3 * MEGABYTE), "messages"),
    ("/v1/chat/completions", chat([{"type": "text", "text": " "}] * 100_000), "messages[0].content"),
    ("/v1/embeddings", {"model": "tiny", "input": "é" * 5 * MEGABYTE}, "input"),
    ("/tokenize", {"prompt": "\x00" * 2 * MEGABYTE}, "prompt"),
    ("/generate", {"prompt": "🎉" * 2 * MEGABYTE}, "prompt"),
    ("/invocations", {"messages": [{"role": "user", "content": "a" * 10 * MEGABYTE}]}, "messages"),
]
DOUBLING = "\n".join(f"r{i} ::= r{i + 1} r{i + 1}" for i in range(60)) + '\nr60 ::= "a"\nroot ::= r0'
GRAMMARS: list[tuple[dict[str, Any], int]] = [
    (rules({"regex": "(" * 20_000 + "a" + ")" * 20_000}), 400),
    (rules({"grammar": 'root ::= root "a" | "a"'}), 200),
    (rules({"grammar": "root ::= root"}), 400),
    (rules({"grammar": DOUBLING}), 200),
    (rules({"choice": ["x" * 600] * 120}), 400),
    (rules({"choice": [str(number) for number in range(5000)]}), 200),
    (chat("hi", **schema(nested(60))), 200),
    (chat("hi", **schema({"$ref": "#"})), 400),
]
EXTREMES: list[dict[str, Any]] = [
    {"temperature": 2, "top_p": 0},
    {"temperature": 2, "top_p": 1e-300, "min_p": 1, "top_k": 1},
    {"temperature": 5e-324},
    {"temperature": 2, "top_k": 2**63 - 1, "seed": -(2**63)},
    {"repetition_penalty": 0.01, "frequency_penalty": 2, "presence_penalty": 2},
    {"repetition_penalty": 0.01, "temperature": 1e-300},
    {"repetition_penalty": 2, "frequency_penalty": -2, "presence_penalty": -2},
    {"logit_bias": {str(token): -100 for token in range(300)}},
    {"logit_bias": {str(token): 100 for token in range(300)}, "temperature": 1e-9},
    {"stop": ["\x00", "�", "🎉", "a" * 1000]},
    {"stop_token_ids": [0] * 100, "min_tokens": 3},
    {"n": 128, "max_tokens": 1, "logprobs": True, "top_logprobs": 20},
]


def post(server: Server, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=PATIENCE_S)


def normal(server: Server) -> None:
    """An ordinary request is answered, and nothing is left over from those before."""
    answer = post(server, "/v1/completions", text("the cat"))
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 3
    server.wait_until_idle()


def memory(server: Server) -> int:
    """Bytes resident of the server and its engine."""
    pids, total = [server.process.pid], 0
    for pid in pids:
        pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    return total


def test_large_texts_are_refused_by_name_in_bounded_memory(small: Server) -> None:
    async def crowd() -> None:
        async with httpx.AsyncClient(base_url=small.url, timeout=PATIENCE_S) as http:
            answers = await asyncio.gather(*(http.post(path, json=body) for path, body, _ in LARGE))
        for answer, (_, _, param) in zip(answers, LARGE, strict=True):
            assert answer.status_code == 400, answer.text[:300]
            assert answer.json()["error"]["param"] == param
            assert len(answer.content) < 2500

    asyncio.run(crowd())
    settled = memory(small)
    for _ in range(3):
        asyncio.run(crowd())
    assert memory(small) < settled + 120 * MEGABYTE, "twice as much has come and gone"
    normal(small)


@pytest.mark.parametrize(("body", "status"), GRAMMARS, ids=lambda value: str(value)[-60:])
def test_grammars_are_followed_or_refused_by_name(small: Server, body: dict[str, Any], status: int) -> None:
    answer = post(small, "/v1/chat/completions", body)
    assert answer.status_code == status, answer.text[:500]
    if status == 400:
        assert answer.json()["error"]["param"].startswith(("structured_outputs.", "response_format."))
    normal(small)


@pytest.mark.parametrize("extreme", EXTREMES, ids=lambda value: str(value)[:60])
def test_extreme_values_that_are_allowed_are_answered(small: Server, extreme: dict[str, Any]) -> None:
    answer = post(small, "/v1/chat/completions", chat("the cat", **extreme))
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["choices"]) == extreme.get("n", 1)


@pytest.mark.parametrize("path", ["/v1/models/%ff%fe", "/v1/models/" + "%F0%9F%8E%89" * 300, "/%c0%ae%c0%ae"])
def test_paths_that_are_no_text_are_unknown(small: Server, path: str) -> None:
    answer = httpx.get(f"{small.url}{path}", timeout=PATIENCE_S)
    assert answer.status_code == 404
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert len(answer.content) < 2500


def test_more_than_the_cache_holds_is_answered_in_turn(small: Server) -> None:
    """Thirty requests that each need two thirds of the cache, some as streams, some with several answers."""
    length = CACHE * 2 // 3

    async def crowd() -> list[int]:
        async with httpx.AsyncClient(base_url=small.url, timeout=PATIENCE_S, limits=httpx.Limits()) as http:

            async def ask(number: int) -> int:
                body = text([number + 5] * 40, max_tokens=length - 40, ignore_eos=True, n=1 + number % 2)
                if number % 3:
                    whole = await http.post("/v1/completions", json=body)
                    return int(whole.json()["usage"]["completion_tokens"]) // body["n"]
                body |= {"stream": True, "stream_options": {"include_usage": True}}
                streamed = await http.post("/v1/completions", json=body)
                *_, last, done, _ = streamed.text.split("\n\n")
                assert done == "data: [DONE]"
                return int(json.loads(last[6:])["usage"]["completion_tokens"]) // body["n"]

            return await asyncio.gather(*map(ask, range(30)))

    before = small.metric("num_preemptions_total")
    assert asyncio.run(crowd()) == [length - 40] * 30
    assert small.metric("num_preemptions_total") > before
    refused = post(small, "/v1/completions", text([5] * 40, max_tokens=CACHE))
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    normal(small)


def test_readers_that_do_not_read_cost_bounded_memory(server: Server) -> None:
    """Each asks for some 3 MB: log-probabilities of eight answers."""
    asked = text("hi", max_tokens=800, ignore_eos=True, n=8, logprobs=5, stream=True)
    body = json.dumps(asked).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
    before, generated = memory(server), server.metric("generation_tokens_total")
    with ExitStack() as stack:
        for _ in range(6):
            slow = stack.enter_context(socket.socket())
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(head + body)
        wait_for(lambda: server.metric("generation_tokens_total") > generated + 6000, 60)
        assert post(server, "/v1/completions", text("the cat")).status_code == 200
        assert memory(server) < before + 100 * MEGABYTE
    normal(server)
