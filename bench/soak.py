"""Does the server's memory stay what it is, whatever passes through?

    python -m bench.soak --requests 1000000

Short requests over kept connections, closed loop: most plain, of prompts that differ; some streamed, some
wrong, some given up half-way. Prints the memory of the server and of its engine as it goes; the last line is
one JSON object, with what they grew by after the first twentieth, by when every cache is full.
"""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from bench.serve.processes import tree

MODEL = Path(__file__).parents[1] / "models" / "byollm-tiny"
NOTES = 20


def main(
    requests: Annotated[int, typer.Option(help="How many in all.")] = 1_000_000,
    connections: Annotated[int, typer.Option(help="How many at a time.")] = 128,
    model: Annotated[Path, typer.Option(help="What to serve.")] = MODEL,
) -> None:
    """Send many short requests and watch the memory."""
    command = [sys.executable, "-m", "byollm", "serve", "--model", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rsplit(":", 1)[1])
            print(json.dumps(asyncio.run(_soak(port, server.pid, model.name, requests, connections))))
        finally:
            server.terminate()


async def _soak(port: int, pid: int, model: str, requests: int, connections: int) -> dict[str, object]:
    left = iter(range(requests))
    outcomes: Counter[str] = Counter()
    memory: list[dict[str, int]] = []
    started = time.perf_counter()
    with Progress() as progress:
        task = progress.add_task("requests", total=requests)

        async def client(seed: int) -> None:
            generator = random.Random(seed)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for number in left:
                kind, body = _request(generator, model)
                writer.write(body)
                if kind == "given up":
                    await reader.readuntil(b"\n\n")
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    outcomes[kind] += 1
                else:
                    outcomes[f"{kind} {await _status(reader)}"] += 1
                progress.advance(task)
                if (number + 1) % max(1, requests // NOTES) == 0:
                    memory.append(_memory(pid))
                    progress.print(f"{number + 1:>9,}  {memory[-1]}")
            writer.close()

        await asyncio.gather(*map(client, range(connections)))
    growth = {name: memory[-1][name] - memory[0][name] for name in memory[0]}
    seconds = time.perf_counter() - started
    return {
        "requests": requests,
        "seconds": round(seconds, 1),
        "outcomes": outcomes,
        "mib": memory,
        "growth": growth,
    }


def _request(generator: random.Random, model: str) -> tuple[str, bytes]:
    kind = generator.choices(["plain", "streamed", "wrong", "given up"], [85, 9, 5, 1])[0]
    tokens = 200 if kind == "given up" else generator.randint(1, 3)
    prompt = [generator.randrange(3, 8000) for _ in range(generator.randint(1, 8))]
    body: dict[str, object] = {"model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
    if kind in ("streamed", "given up"):
        body["stream"] = True
    if kind == "wrong":
        body["temperature"] = "hot"
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
    return kind, head.encode() + content


async def _status(reader: asyncio.StreamReader) -> int:
    """Read one response to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" in head:
        await reader.readuntil(b"\r\n0\r\n\r\n")
    else:
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        await reader.readexactly(int(length))
    return int(head.split()[1])


def _memory(server: int) -> dict[str, int]:
    """MiB resident in the server and in its engine."""
    resident = {}
    for name, pid in zip(("server", "engine"), tree(server), strict=True):
        (line,) = [
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
        ]
        resident[name] = int(line.split()[1]) // 1024
    return resident


if __name__ == "__main__":
    typer.run(main)
