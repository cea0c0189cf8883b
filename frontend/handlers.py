"""What the page does when something is pressed: the browser sends the conversation along and gets it back.

A question takes two steps. First one of the `ask` handlers puts it into the chat; then `answer` answers the
question that the chat ends with. Where there is nothing to ask, neither changes anything.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import gradio as gr

from byollm.settings import PageSettings
from frontend.card import card, facts
from frontend.chat import Question, answer
from frontend.client import ModelClient
from frontend.conversation import Message, read, show
from frontend.errors import ControlError
from frontend.notes import note
from frontend.panels import Controls
from frontend.replies import Replies
from frontend.sampling import NEUTRAL, start
from frontend.status import look

Shown = list[dict[str, Any]]
"""The value of the chat component."""
Update = dict[str, Any]
LeftOut = int | None
"""How many of the oldest turns are not sent; None until the person agreed to leave any out."""

SENDING: Update = gr.update(submit_btn=False, stop_btn="Stop")
READY: Update = gr.update(submit_btn="Send", stop_btn=False)


class Handlers:
    """The handlers of one page process, which remembers nothing of what is said. Wired in `frontend.page`."""

    def __init__(self, settings: PageSettings, client: ModelClient):
        self._settings = settings
        self._longest = settings.max_message_characters
        self._client = client
        self._replies = Replies()

    async def ask(self, request: gr.Request, text: str, value: Shown) -> tuple[Shown | Update, str | Update]:
        """Put what is in the composer into the chat. It stays there if it is too long or comes too early."""
        text = text.strip()
        if excess := self._excess(text, "message"):
            gr.Warning(excess)
        if excess or not text or self._replies.busy(_session(request)):
            return gr.skip(), gr.skip()
        return show([*read(value), Message("user", text)]), ""

    async def ask_example(self, chosen: gr.SelectData, value: Shown) -> Shown:
        """Ask one of the questions offered on the empty chat."""
        return show([*read(value), Message("user", str(chosen.value["text"]))])

    async def ask_again(self, retried: gr.RetryData, value: Shown) -> Shown:
        """Take the last answer away, so that the question is answered anew."""
        return show(read(value)[: _index(retried) + 1])

    async def ask_edited(self, edited: gr.EditData, value: Shown, left_out: LeftOut) -> tuple[Shown, LeftOut]:
        """Put an edited question in place; what followed is dropped. What cannot be sent is not edited."""
        conversation, index, text = read(value), _index(edited), str(edited.value).strip()
        if excess := self._excess(text, "message"):
            gr.Warning(excess)
        if excess or not text:
            conversation[index] = Message("user", _text(edited.previous_value))
            return show(conversation), left_out
        return show([*conversation[:index], Message("user", text)]), _anew(left_out)

    async def ask_shorter(self, value: Shown) -> tuple[Shown, LeftOut]:
        """Ask again after a refusal for length; from here on the oldest turns are left out if need be."""
        conversation = read(value)
        while conversation and conversation[-1].role == "assistant":
            conversation.pop()
        return show(conversation), 0

    async def answer(
        self, request: gr.Request, value: Shown, left_out: LeftOut, *controls: Any
    ) -> AsyncGenerator[tuple[Shown | Update, Update, LeftOut]]:
        """Answer the question that the chat ends with, frame by frame."""
        conversation, session = read(value), _session(request)
        asked = bool(conversation) and conversation[-1].role == "user"
        if not asked or self._replies.busy(session):
            yield gr.skip(), gr.skip(), left_out
            return
        try:
            system, sampling = Controls.values(*controls)
            problem = self._excess(system, "system prompt")
        except ControlError as error:
            problem = str(error)
        if problem:
            refusal = Message("assistant", "", note(problem=problem))
            yield show([*conversation, refusal]), gr.skip(), left_out
            return
        with self._replies.running(session) as reply:
            yield gr.skip(), SENDING, left_out
            question, said = Question(conversation, system, sampling, left_out), conversation
            async with aclosing(answer(self._client, question, reply.stop)) as frames:
                async for frame in frames:
                    said, left_out = [*conversation, frame.message], frame.leave_out
                    yield show(said), gr.skip(), left_out
            if reply.discarded:
                said, left_out = [], None
            yield show(said), READY, left_out

    async def stop(self, request: gr.Request) -> None:
        """Stop the answer that is running; what came so far stays."""
        await self._replies.halt(_session(request))

    async def clear(self, request: gr.Request) -> tuple[Shown, Update, None]:
        """Begin a new chat."""
        await self._replies.halt(_session(request), discard=True)
        return [], READY, None

    async def undo(self, undone: gr.UndoData, value: Shown, left_out: LeftOut) -> tuple[Shown, str, LeftOut]:
        """Take the last question and its answer back; the question returns to the composer."""
        conversation, index = read(value), _index(undone)
        return show(conversation[:index]), conversation[index].text, _anew(left_out)

    async def end(self) -> None:
        """Stop every answer: the page is about to go."""
        await self._replies.halt_all()

    async def look(self, shown: str, started: str, max_tokens: float) -> tuple[Any, ...]:
        """Bring banner, chip, facts, card and controls up to date, where something changed.

        The sampling controls start anew with another model than the one that they `started` with.
        """
        status = await look(self._client, shown)
        drawing: list[Any] = [gr.skip()] * len(NEUTRAL)
        if status.key == shown:
            return (*(gr.skip(),) * 7, *drawing)
        if status.info is None:
            return status.banner(), status.chip(), *(gr.skip(),) * 3, status.key, gr.skip(), *drawing
        if status.model != started:
            drawing = list(start(self._settings, await self._client.defaults()).values())
        context = status.info.get("max_context")
        length = gr.skip()
        if isinstance(context, int) and context > 1:
            length = gr.update(maximum=context, value=min(max_tokens, context))
        told = facts(status.info), card(status.info)
        return status.banner(), status.chip(), *told, length, status.key, status.model, *drawing

    def _excess(self, text: str, what: str) -> str:
        if len(text) <= self._longest:
            return ""
        return f"The {what} has {len(text):,} characters, {self._longest:,} are allowed: shorten it."


def _session(request: gr.Request) -> str:
    return str(request.session_hash)


def _index(event: gr.RetryData | gr.UndoData | gr.EditData) -> int:
    return event.index if isinstance(event.index, int) else event.index[0]


def _anew(left_out: LeftOut) -> LeftOut:
    """Count anew in a conversation that became shorter; the agreement to leave turns out stands."""
    return None if left_out is None else 0


def _text(content: Any) -> str:
    return content if isinstance(content, str) else str(content[0]["text"])
