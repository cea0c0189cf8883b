"""The real page process, a scripted model server, and one real Chromium for all."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.frontend.support import Chat, ScriptedServer, serving_page
from tests.ports import free_port

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE = 60_000  # ms; other work may keep the machine busy
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(free_port())
    yield server
    server.kill()


@pytest.fixture(scope="package")
def page_address(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_page(server.address, tmp_path_factory.mktemp("page") / "log") as address:
        yield address


# Playwright keeps an event loop in this thread until the fixture ends: not beyond the tests of the page.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)("Debian package chromium is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=2 * PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def profile(browser: Browser) -> BrowserContext:
    """A browser profile for all tests that want nothing special; its cache lets the page open faster."""
    return browser.new_context()


@pytest.fixture(scope="package")
def outside() -> list[str]:
    """The requests that left this machine."""
    return []


@pytest.fixture(autouse=True)
def nothing_goes_outside(outside: list[str]) -> Iterator[None]:
    """Check after each test that no browser asked anything of another machine."""
    yield
    assert not outside, f"requests that left this machine: {outside}"


@pytest.fixture(scope="package")
def opener(browser: Browser, profile: BrowserContext, outside: list[str]) -> Callable[..., Page]:
    """Open the page; with options, in a profile of its own."""

    def opened(address: str, **options: Any) -> Page:
        page = (browser.new_context(**options) if options else profile).new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: None if _is_local(request.url) else outside.append(request.url))
        page.goto(address)
        expect(page.locator("#composer textarea")).to_be_visible()
        expect(page.locator("#status .chip")).to_be_visible()
        return page

    return opened


@pytest.fixture
def open_page(opener: Callable[..., Page]) -> Iterator[Callable[..., Page]]:
    """The same for pages that are closed after the test."""
    pages: list[Page] = []

    def opened(address: str, **options: Any) -> Page:
        pages.append(opener(address, **options))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


def _is_local(url: str) -> bool:
    return url.startswith(("data:", "blob:", "about:")) or httpx.URL(url).host in ("127.0.0.1", "localhost")


@pytest.fixture
def page(open_page: Callable[..., Page], page_address: str) -> Page:
    """A page just opened."""
    return open_page(page_address)


@pytest.fixture(scope="package")
def visited() -> list[Page]:
    """The page that the tests of the chat hand on, since opening one takes seconds."""
    return []


@pytest.fixture
def chat(visited: list[Page], opener: Callable[..., Page], page_address: str) -> Chat:
    """An empty chat."""
    if not visited or visited[0].is_closed():
        visited[:] = [opener(page_address)]
        return Chat(visited[0])
    page = visited[0]
    page.bring_to_front()  # Chromium draws only what is in front, and clicks only on what it draws
    page.keyboard.press("Escape")
    chat = Chat(page)
    # Each thing only once the one before it has visibly ended: an answer, then the conversation.
    if chat.stop.is_visible():
        chat.stop.click()
    chat.wait()
    if chat.questions.count():
        page.get_by_role("button", name="New chat").click()
        expect(chat.questions).to_have_count(0)
    chat.composer.fill("")
    return chat
