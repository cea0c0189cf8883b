"""Runs the server and the page as two child processes and ends them together."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import webbrowser
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from byollm.settings import ByollmError, PageSettings, ServerSettings

READY_SECONDS = 120.0  # a cold disk under the first import of torch
STOP_SECONDS = 30.0  # what a container gets between SIGTERM and SIGKILL
PORTS_TO_TRY = 100


class RunError(ByollmError):
    """The server or the page did not start, or ended by itself."""


def run_pair(
    model: Path | None,
    *,
    env: str,
    server: ServerSettings,
    page: PageSettings,
    port_asked_for: bool,
    browser: bool,
) -> None:
    """Serve `model` and the page until Ctrl-C, SIGTERM or a closed terminal.

    Raises:
        RunError: one of the two did not become ready or ended by itself; the other is stopped first.
    """
    console = Console(stderr=True, highlight=False)
    api = f"http://127.0.0.1:{_free_port(server.port)}"
    address = f"http://127.0.0.1:{page.port if port_asked_for else _free_port(page.port)}"
    choose_model = [] if model is None else ["--model", str(model)]
    commands = {
        "server": [
            "byollm",
            "serve",
            *choose_model,
            "--env",
            env,
            "--host",
            "127.0.0.1",
            "--port",
            api.split(":")[-1],
        ],
        "page": ["frontend", "--env", env, "--api", api, "--port", address.split(":")[-1]],
    }
    children: dict[str, subprocess.Popen[bytes]] = {}
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _interrupt)
    try:
        with console.status("Loading the model and the page"):
            for name, command in commands.items():
                # sessions of their own: Ctrl-C reaches them through us, once
                children[name] = subprocess.Popen(
                    [sys.executable, "-m", *command], stdout=subprocess.DEVNULL, start_new_session=True
                )
            _wait_until_ready({f"{api}/ping": "server", address: "page"}, children)
        console.print(f"\n  Chat   [bold]{address}[/]\n  API    {api}/v1\n\n  Ctrl-C ends both.\n")
        if browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        while all(child.poll() is None for child in children.values()):
            time.sleep(0.2)
        _raise_for_ended(children)
    except KeyboardInterrupt:
        console.print("Stopping")
    finally:
        _stop(children)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _free_port(wanted: int) -> int:
    """Return the first free loopback port from `wanted` on; any, if `wanted` is 0."""
    for port in range(wanted, min(wanted + PORTS_TO_TRY, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RunError(f"no free port from {wanted} on: choose another with --port or in config/<env>.yaml")


def _wait_until_ready(addresses: dict[str, str], children: dict[str, "subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    waiting = dict(addresses)
    while waiting:
        _raise_for_ended(children)
        if time.monotonic() > deadline:
            raise RunError(f"{' and '.join(waiting.values())} not ready after {READY_SECONDS:.0f} s")
        for address in list(waiting):
            try:
                with urllib.request.urlopen(address, timeout=2):  # noqa: S310 (a loopback address of our own)
                    del waiting[address]
            except OSError:  # refused, or 503 while loading
                time.sleep(0.1)


def _raise_for_ended(children: dict[str, "subprocess.Popen[bytes]"]) -> None:
    for name, child in children.items():
        if child.poll() is not None:
            raise RunError(f"the {name} ended with status {child.returncode}; its message is above")


def _stop(children: dict[str, "subprocess.Popen[bytes]"]) -> None:
    for child in children.values():
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children.values():
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()


def _has_screen() -> bool:
    """Without a screen, `webbrowser` would start a text browser over our output."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
