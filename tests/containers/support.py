"""Containers of the image under test, run the way a careful host runs them."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

MODEL = Path(__file__).parents[2] / "models" / "byollm-tiny"
PLACE = "/opt/ml/model"
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
START_S = 300  # a machine that has thirty other things to do takes minutes to import PyTorch


def find_engine() -> str:
    """The program that runs containers, in the order in which scripts/image chooses."""
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    ):
        return "docker"
    assert shutil.which("podman"), "no docker daemon and no podman: docs/container.md says how to get one"
    return "podman"


def command(*arguments: str) -> str:
    """What docker or podman answers."""
    done = subprocess.run([find_engine(), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspect(name: str) -> dict[str, Any]:
    """The configuration of an image or the state of a container."""
    found: list[dict[str, Any]] = json.loads(command("inspect", name))
    return found[0]


@dataclass
class Container:
    """A container, running or ended."""

    name: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def python(self, code: str) -> str:
        """What `code` prints inside."""
        return command("exec", self.name, "python", "-c", code).strip()

    def logs(self) -> str:
        done = subprocess.run([find_engine(), "logs", self.name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        return dict(inspect(self.name)["State"])

    def kill(self, signal: str) -> None:
        command("kill", "--signal", signal, self.name)

    def wait(self, seconds: float) -> int:
        """The exit status, once the process has ended."""
        deadline = time.monotonic() + seconds
        while (state := self.state())["Running"]:
            assert time.monotonic() < deadline, f"it still runs:\n{self.logs()}"
            time.sleep(0.1)
        return int(state["ExitCode"])

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/ping", timeout=5).status_code == 200:
                    return
            assert self.state()["Running"], f"it ended:\n{self.logs()}"
            assert time.monotonic() < deadline, f"it is not ready:\n{self.logs()}"
            time.sleep(0.2)


@contextlib.contextmanager
def container(
    image: str, *, model: Path | None = MODEL, options: list[str] | None = None, network: str = "host"
) -> Iterator[Container]:
    """Start `IMAGE serve` as SageMaker does, on a port that it is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mount = [] if model is None else ["--volume", f"{model}:{PLACE}:ro"]
    told = ["--env", f"SAGEMAKER_BIND_TO_PORT={port}"] if network == "host" else []
    options = HARDENED if options is None else options
    name = command("run", "--detach", "--network", network, *mount, *told, *options, image, "serve").strip()
    try:
        yield Container(name, port)
    finally:
        command("rm", "--force", name)
