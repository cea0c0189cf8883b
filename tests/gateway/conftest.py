"""A real gateway process in front of a scripted runtime."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
import uvicorn

from byollm.local.world import ACCESS_KEY, SECRET_KEY, World
from tests.gateway.fake_runtime import Seen, create

DEADLINE_S = 120  # for what begins with a process


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@dataclass
class FakeRuntime:
    url: str
    seen: Seen


@dataclass
class Gateway:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeRuntime]:
    seen, world = Seen(), World(tmp_path_factory.mktemp("world"), port=0, region="ca-central-1")
    server = uvicorn.Server(
        uvicorn.Config(create(seen, world), port=0, log_level="critical", timeout_keep_alive=60)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield FakeRuntime(f"http://localhost:{port}", seen)
    server.should_exit = server.force_exit = True
    thread.join(DEADLINE_S)


@contextlib.contextmanager
def serving(runtime: FakeRuntime, directory: Path, **settings: str) -> Iterator[Gateway]:
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": runtime.url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "BYOLLM__AWS__REGION": "ca-central-1",
        **{f"BYOLLM__GATEWAY__{name.upper()}": value for name, value in settings.items()},
    }
    out, log = directory / "out", directory / "log"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "byollm", "gateway", "--port", "0"],
            env=environment,
            stdout=stdout,
            stderr=stderr,
        )
    try:
        wait_for(lambda: process.poll() is not None or "->" in out.read_text())
        found = re.search(r"http://\S+", out.read_text())
        assert found, log.read_text()
        yield Gateway(process, found.group(), log)
    finally:
        process.kill()
        process.wait(DEADLINE_S)


@pytest.fixture(scope="session")
def gateway(runtime: FakeRuntime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway that most tests share."""
    with serving(runtime, tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with gateway.client() as asking:
        yield asking
