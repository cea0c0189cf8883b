"""A whole emulated AWS as processes, and unmodified clients of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import httpx

from byollm.local.world import ACCESS_KEY, SECRET_KEY
from tests.ports import free_port

REGION = "ca-central-1"


@dataclass
class Platform:
    """A running front process."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What any client of AWS needs to find it."""
        return {
            **os.environ,
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }

    def client(self, service: str, region: str = REGION) -> Any:
        return _client(self.address, service, region)

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.address}/_byollm/health").json()
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@cache
def _client(address: str, service: str, region: str) -> Any:
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=region)
    return session.client(service, endpoint_url=address)


@dataclass
class Mortal:
    """A platform that tests kill, and start again on what is left of it."""

    platform: Platform

    def kill(self) -> None:
        self.platform.kill()

    def start(self) -> Platform:
        self.platform = start_platform(self.platform.directory, self.platform.port)
        return self.platform


def start_platform(directory: Path, port: int | None = None, factor: float = 60) -> Platform:
    port = port or free_port()
    directory.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "byollm.local", "--directory", str(directory), "--port", str(port)]
    line += ["--region", REGION, "--clock-factor", str(factor)]
    with (directory / "front.log").open("ab") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log)
    platform = Platform(directory, port, process)
    try:
        eventually(lambda: has_started(platform), 240)
    except AssertionError as error:
        platform.kill()
        raise AssertionError((directory / "front.log").read_text()) from error
    return platform


def has_started(platform: Platform) -> bool:
    assert platform.process.poll() is None, "it has ended"
    try:
        health = platform.health()
    except (httpx.TransportError, json.JSONDecodeError):
        return False
    assert "failed" not in health, health["failed"]
    return bool(health["ready"])


def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.05)
