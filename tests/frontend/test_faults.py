import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.frontend.support import Chat, ScriptedServer, serving_page
from tests.ports import free_port


def test_error_in_mid_stream_is_shown_and_keeps_what_came(chat: Chat) -> None:
    chat.ask("break")
    expect(chat.notes).to_contain_text("The model server broke off: the engine *died*")
    expect(chat.answers).to_have_text(re.compile("so far so good"))
    chat.wait()


def test_connection_lost_in_mid_stream_is_shown_and_keeps_what_came(chat: Chat) -> None:
    chat.ask("drop")
    expect(chat.notes).to_contain_text("before the answer was complete")
    expect(chat.answers).to_have_text(re.compile("so far so good"))
    chat.ask_and_wait("still there?")
    expect(chat.answers.last).to_contain_text("still there?")


def test_conversation_beyond_the_context_offers_to_leave_out_the_oldest_turns(
    chat: Chat, server: ScriptedServer
) -> None:
    for number in range(3):
        chat.ask_and_wait(f"{number} one two three four")
    expect(chat.notes.last).to_contain_text("maximum context length is 12 words")
    chat.page.get_by_role("button", name="Leave out the oldest turns").click()
    expect(chat.notes.last).to_contain_text("1 oldest turn left out")
    chat.wait()
    assert [message["content"].split()[0] for message in server.asked["messages"]] == ["1", "Answer", "2"]
    # agreed once, it is done without asking again, and shown
    chat.ask_and_wait("3 one two three four")
    expect(chat.notes.last).to_contain_text("2 oldest turns left out")


def test_single_question_beyond_the_context_shows_the_remedy_of_the_server(chat: Chat) -> None:
    chat.ask_and_wait("word " * 40)
    expect(chat.notes).to_contain_text("Shorten the messages.")
    expect(chat.page.get_by_role("button", name="Leave out")).to_have_count(0)


def test_message_beyond_the_limit_stays_in_the_composer(chat: Chat) -> None:
    chat.ask("x" * 16_001)
    expect(chat.page.get_by_text("16,000 are allowed")).to_be_visible()
    expect(chat.composer).to_have_value("x" * 16_001)
    expect(chat.questions).to_have_count(0)


def test_hostile_answer_runs_no_script_and_fetches_nothing(chat: Chat) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        chat.ask_and_wait(f"hostile {trap.getsockname()[1]}")
        expect(chat.answers).to_contain_text("end")
        expect(chat.answers.locator("b, strong")).to_have_text("bold")
        assert chat.answers.locator("script, iframe").count() == 0
        assert chat.page.evaluate("getComputedStyle(document.body).backgroundImage") == "none"
        link = chat.answers.get_by_text("a link")
        assert "javascript" not in (link.get_attribute("href") or "")
        chat.ask_and_wait("later")
        assert chat.page.evaluate("window.pwned") is None
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_script_that_got_past_the_sanitiser_is_not_run(page: Page) -> None:
    blocked = page.evaluate(
        """() => new Promise((tell) => {
            const blocked = [];
            document.addEventListener("securitypolicyviolation", (event) => {
                blocked.push(event.effectiveDirective);
                if (blocked.length === 2) tell(blocked.sort());
            });
            document.body.insertAdjacentHTML("beforeend", `<img src="x" onerror="window.pwned = 1">`);
            document.body.append(Object.assign(document.createElement("script"), {text: "window.pwned = 2"}));
        })"""
    )
    assert blocked == ["script-src-attr", "script-src-elem"]
    assert page.evaluate("window.pwned") is None


def test_page_waits_for_the_server_and_recovers_by_itself(
    open_page: Callable[..., Page], tmp_path: Path
) -> None:
    port = free_port()
    with serving_page(f"http://127.0.0.1:{port}", tmp_path / "log") as address:
        page = open_page(address)
        chat, banner = Chat(page), page.locator("#banner [role=status]")
        expect(banner).to_contain_text(f"No model server answers at http://127.0.0.1:{port}.")
        expect(banner).to_contain_text("byollm serve --model DIR")
        chat.ask_and_wait("anybody?")
        expect(chat.notes).to_contain_text("No model server answers")

        server = ScriptedServer(port)
        try:
            server.be("loading")
            expect(banner).to_contain_text("still loading")
            server.be("ready")
            expect(banner).to_have_text("")
            expect(page.locator("#status .chip")).to_contain_text("scripted-1m")
            chat.button("Retry").click()
            expect(chat.answers).to_contain_text("anybody?")
            chat.wait()

            chat.ask("slowly")
            expect(chat.answers.last).to_contain_text("3 4 5")
            server.kill()
            expect(chat.notes.last).to_contain_text("before the answer was complete")
            expect(chat.answers.last).to_contain_text("3 4 5")
            expect(banner).to_contain_text("No model server answers")
        finally:
            server.kill()
