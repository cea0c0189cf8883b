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

import httpx
import openai
import psutil

COMMAND = [sys.executable, "-m", "byollm"]
VOCAB = 300
CONTEXT = 4096


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
        """The process id of its engine, once there is one."""
        server = psutil.Process(self.process.pid)
        wait_for(lambda: len(server.children()) == 1)
        return server.children()[0].pid

    def ping(self) -> int:
        return httpx.get(f"{self.url}/ping", timeout=30).status_code

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def async_client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one series of /metrics; 0 if it is not there."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines():
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


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
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
    """Start `byollm serve` on a free port; `settings` such as `server__max_requests` become variables."""
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
