"""The page: its layout, and which event leads to which handler."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from byollm.settings import PageSettings
from frontend.client import is_loopback
from frontend.handlers import Handlers
from frontend.panels import model_panel, settings_panel

ASSETS = Path(__file__).parent / "assets"
MATHS: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]


def build(settings: PageSettings, handlers: Handlers) -> gr.Blocks:
    """Lay the page out. The panels are opened and the theme is toggled by assets/page.js, in the browser."""
    blocks: gr.Blocks
    with gr.Blocks(title="byollm", analytics_enabled=False, fill_width=True) as blocks:
        with gr.Row(elem_id="head"):
            gr.HTML(_asset("wordmark.html"), elem_id="brand", js_on_load=None)
            chip = gr.HTML(elem_id="status", js_on_load=None)
            new = gr.Button("New chat", elem_id="new-chat", size="sm")
            gr.Button("Model", elem_id="open-model", size="sm")
            gr.Button("Settings", elem_id="open-settings", size="sm")
            gr.Button("Theme", elem_id="toggle-theme", size="sm")
        banner = gr.HTML(elem_id="banner", js_on_load=None)
        with gr.Column(elem_id="main"):
            chat = gr.Chatbot(
                elem_id="chat",
                label="Conversation",
                show_label=False,
                height="100%",
                layout="bubble",
                buttons=["copy"],
                placeholder=welcome(settings.api),
                examples=[{"text": example} for example in settings.examples],
                latex_delimiters=MATHS,
                sanitize_html=True,
                allow_tags=False,
                editable="user",
                feedback_options=None,
                allow_file_downloads=False,
            )
            composer = gr.Textbox(
                elem_id="composer",
                label="Message",
                show_label=False,
                placeholder="Ask something",
                lines=1,
                max_lines=8,
                autofocus=True,
                submit_btn="Send",
            )
            gr.HTML(_asset("hint.html"), elem_id="hint", js_on_load=None)
        controls = settings_panel(settings)
        facts, card = model_panel()
        # state of the session, held in the browser: with a gr.State each open page would hold a connection
        # all the time, of which a browser allows an address six
        left_out = gr.Number(None, precision=0, visible=False)
        shown = gr.Textbox("", visible=False)
        started = gr.Textbox("", visible=False)

        # through one queue, which keeps what a browser asks and is told in order: of several, Gradio takes
        # them as it likes; any number may run at once
        quick: dict[str, Any] = {
            "concurrency_id": "page",
            "concurrency_limit": None,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        said = [chat, composer, left_out]
        for asking in (
            composer.submit(handlers.ask, [composer, chat], [chat, composer], **quick),
            chat.example_select(handlers.ask_example, chat, chat, **quick),
            chat.retry(handlers.ask_again, chat, chat, **quick),
            chat.edit(handlers.ask_edited, [chat, left_out], [chat, left_out], **quick),
            chat.option_select(handlers.ask_shorter, chat, [chat, left_out], **quick),
        ):
            asking.then(handlers.answer, [chat, left_out, *controls.all()], said, **quick)
        composer.stop(handlers.stop, **quick)
        chat.undo(handlers.undo, [chat, left_out], said, **quick)
        new.click(handlers.clear, None, said, **quick)

        known = [shown, started, controls.max_tokens]
        status = [banner, chip, facts, card, controls.max_tokens, shown, started, *controls.drawing()]
        # one event, of which only one is under way at a time: a second look from before the first was shown
        # would have the controls start anew, over what somebody has set meanwhile
        looking: list[Any] = [blocks.load, gr.Timer(settings.poll_seconds).tick]
        gr.on(looking, handlers.look, known, status, queue=False, **quick)
    return blocks


def welcome(api: str) -> str:
    """Greet, and say where what is written goes."""
    host = urlsplit(api).hostname or ""
    where = "on this machine; what you write stays here"
    if not is_loopback(host):
        where = f"at {host}; what you write goes there"
    return f"## What would you like to know?\n\nThe model runs {where}."


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
