"""The processes of the tests, and what a person sees and does at the page."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, expect

HERE = Path(__file__).parent
PATIENCE_S = 60  # other work may keep the machine busy
WATCHED = """
import runpy, sys
def watch(event, details):
    if event == "socket.connect" and isinstance(details[1], tuple):
        host = details[1][0]
    elif event == "socket.getaddrinfo":
        host = details[0]
    else:
        return
    if host not in ("127.0.0.1", "localhost", "::1", None):
        print("went outside:", event, host, file=sys.stderr, flush=True)
sys.addaudithook(watch)
sys.argv[0] = "frontend"
runpy.run_module("frontend", run_name="__main__", alter_sys=True)
"""


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)


class ScriptedServer:
    """A handle on a process of scripted_server.py."""

    def __init__(self, port: int):
        self.address = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([sys.executable, str(HERE / "scripted_server.py"), str(port)])
        wait_for(self._answers, "the scripted server")

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the scripted server ended"
        try:
            return bool(self.seen)
        except httpx.TransportError:
            return False

    @property
    def seen(self) -> dict[str, Any]:
        seen = httpx.get(f"{self.address}/seen", trust_env=False, timeout=PATIENCE_S)
        return dict(seen.raise_for_status().json())

    @property
    def asked(self) -> dict[str, Any]:
        """The last request."""
        return dict(self.seen["bodies"][-1])

    def be(self, status: str) -> None:
        self._set({"status": status})

    def tell(self, **facts: Any) -> None:
        """Have it tell these facts of its model beside its usual ones."""
        self._set({"facts": facts})

    def _set(self, state: dict[str, Any]) -> None:
        address = f"{self.address}/state"
        httpx.post(address, json=state, trust_env=False, timeout=PATIENCE_S).raise_for_status()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def serving_page(api: str, log: Path) -> Iterator[str]:
    """Run the page; when it ends, check that it ended cleanly and never went outside this machine."""
    command = [sys.executable, "-c", WATCHED, "--api", api, "--port", "0"]
    environment = os.environ | {
        "BYOLLM__PAGE__POLL_SECONDS": "1",
        "BYOLLM__PAGE__CONNECT_SECONDS": str(PATIENCE_S),
        "HTTP_PROXY": "http://192.0.2.1:9",
    }
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        address: list[str] = []

        def ready() -> bool:
            assert process.poll() is None, f"the page ended: {log.read_text()}"
            address.extend(re.findall(r"byollm page: (http://\S+) ", log.read_text()))
            return bool(address)

        wait_for(ready, "the page", 150)
        yield address[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert "went outside" not in log.read_text(), log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


class Chat:
    """What a person sees of the chat and does with it."""

    def __init__(self, page: Page):
        self.page = page
        self.questions = page.locator("#chat .user-row .message-content")
        self.answers = page.locator("#chat .bot-row .bot.message > .message:first-child .message-content")
        self.notes = page.locator("#chat .bot-row .message + .message .message-content")
        self.composer = page.locator("#composer textarea")
        self.send = page.locator("#composer .submit-button")
        self.stop = page.locator("#composer .stop-button")

    def ask(self, question: str) -> None:
        self.composer.fill(question)
        self.composer.press("Enter")

    def ask_and_wait(self, question: str) -> None:
        self.wait()  # a question asked before stays in the composer
        before = self.notes.count()
        self.ask(question)
        expect(self.notes).to_have_count(before + 1)
        self.wait()

    def wait(self) -> None:
        """Wait until the answer has ended."""
        expect(self.send).to_be_visible()

    def button(self, name: str) -> Any:
        return self.page.locator("#chat").get_by_role("button", name=name, exact=True).last
