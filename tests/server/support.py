"""Real server processes that serve a tiny model."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil

COMMAND = [sys.executable, "-m", "byollm"]
VOCAB = 300
CONTEXT = 4096
PATIENCE_S = 240  # with whatever a busy machine has to do for one answer
# More tokens than any machine makes while a test looks on: it has to be left, cut off, or refused.
ENDLESS: dict[str, Any] = {
    "model": "tiny",
    "prompt": "hi",
    "max_tokens": CONTEXT - 96,
    "n": 100,
    "ignore_eos": True,
}


@dataclass
class Server:
    """A running `byollm serve`."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def engine(self) -> int:
        """The process id of its engine, once there is one.

        Before it runs a program of its own, it is a copy of the server, which waits for it.
        """
        found: list[int] = []

        def started() -> bool:
            children = psutil.Process(self.process.pid).children()
            found[:] = [child.pid for child in children if "engine_process" in " ".join(child.cmdline())]
            return len(found) == 1

        wait_for(started)
        return found[0]

    def ping(self) -> int:
        return httpx.get(f"{self.url}/ping", timeout=PATIENCE_S).status_code

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S
        )

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series of /metrics; 0 if it is not there."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S).text.splitlines():
            found = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == f"byollm:{name}":
                given = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if labels.items() <= given.items():
                    total += float(found[3])
        return total

    def wait_until_idle(self) -> None:
        """Wait until no sequence runs or waits and every cache block is free."""
        wait_for(
            lambda: (
                not (
                    self.metric("num_requests_running")
                    or self.metric("num_requests_waiting")
                    or self.metric("kv_cache_usage_perc")
                )
            )
        )


def body(asked: dict[str, Any]) -> dict[str, Any]:
    """A body as the arguments of OpenAI's client, which does not know `ignore_eos`."""
    known = {name: value for name, value in asked.items() if name != "ignore_eos"}
    return known | {"extra_body": {"ignore_eos": asked["ignore_eos"]}}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextlib.contextmanager
def serving(
    model: Path,
    log: Path,
    *options: str,
    ready: bool = True,
    python: str = sys.executable,
    **settings: object,
) -> Iterator[Server]:
    """Start `byollm serve` on a free port; `settings` such as `server__max_requests` become variables.

    It computes with float32, also where the processor has bfloat16: answers are held against transformers'.
    """
    settings = {"engine__dtype": "float32", "server__request_timeout_s": PATIENCE_S} | settings
    variables = {f"BYOLLM__{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [python, *COMMAND[1:], "serve", "--model", str(model), "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | variables,
        )
    try:
        assert process.stdout is not None
        if ready:
            line = process.stdout.readline()
            found = re.fullmatch(r"byollm: serving \S+ at (http://\S+)\n", line)
            assert found, f"{line!r}\n{log.read_text()}"
            url = found[1]
        else:
            wait_for(lambda: "listening on" in log.read_text())
            url = re.findall(r"listening on (http://\S+),", log.read_text())[0]
        yield Server(process, url, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
