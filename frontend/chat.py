"""One answer: asks the model, follows the stream, keeps count, and says in a note how it went."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from frontend.client import ModelClient, Piece
from frontend.conversation import Message, prompt, turns
from frontend.errors import PageError, RefusedError
from frontend.notes import note
from frontend.sampling import Sampling
from frontend.statistics import Statistics

LEAVE_OUT = "Leave out the oldest turns and answer"
FRAME_SECONDS = 0.05  # a browser redraws the whole answer at each update, so they are not sent more often


@dataclass(frozen=True)
class Question:
    """What is asked of the model."""

    conversation: Sequence[Message]
    system: str
    sampling: Sampling
    leave_out: int | None = None
    """How many of the oldest turns are not sent; None while the person has not agreed to leave any out."""


@dataclass(frozen=True)
class Frame:
    """The answer as it stands at one moment."""

    message: Message
    leave_out: int | None


async def answer(client: ModelClient, question: Question, stop: asyncio.Event) -> AsyncGenerator[Frame]:
    """Yield the answer as it grows; ends with the complete one, or with as much as came and the reason.

    A conversation that does not fit into the model's context is refused by the server. Then the answer is the
    server's message with an offer to leave out the oldest turns; once accepted, as many as necessary are.
    """
    statistics = Statistics()
    text, finish, problem = "", None, ""
    choices: tuple[str, ...] = ()
    leave_out = question.leave_out
    spare = len(turns(question.conversation)) - 1
    skip = min(leave_out or 0, spare)
    drawn = 0.0
    while True:
        messages = prompt(question.conversation, question.system, skip)
        try:
            model = await client.model()
            sampling = question.sampling.fields(await client.defaults())
            stream = client.chat(model, messages, sampling)
            async with aclosing(_until(stream, stop)) as pieces:
                async for piece in pieces:
                    statistics.watch(piece)
                    text += piece.text
                    finish = piece.finish or finish
                    if text and time.monotonic() - drawn >= FRAME_SECONDS:
                        drawn = time.monotonic()
                        yield Frame(Message("assistant", text, note(statistics.line())), leave_out)
        except RefusedError as error:
            if error.too_long and leave_out is not None and skip < spare:
                skip += 1
                continue
            problem = str(error)
            if error.too_long and spare:
                choices = (LEAVE_OUT,)
        except PageError as error:
            problem = str(error)
        break
    remarks = [statistics.line()] if text else []
    if stop.is_set():
        remarks.append("stopped")
    elif finish == "length":
        remarks.append("cut off at the length limit")
    if skip and not problem:
        remarks.append(f"{skip} oldest turn{'' if skip == 1 else 's'} left out, to fit the model's context")
    if not (text or problem or remarks):
        remarks.append("the model answered with nothing")
    said = note(*remarks, problem=problem)
    yield Frame(Message("assistant", text, said, choices), skip if leave_out is not None else None)


async def _until(pieces: AsyncGenerator[Piece], stop: asyncio.Event) -> AsyncGenerator[Piece]:
    """Pass the pieces on until the stream ends or `stop` is set, whichever comes first."""
    stopping = asyncio.create_task(stop.wait())
    following: asyncio.Task[Piece] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(pieces))
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                return
            try:
                yield following.result()
            except StopAsyncIteration:
                return
    finally:
        stopping.cancel()
        if following is not None:
            following.cancel()  # which closes the connection, and so frees the model
            await asyncio.gather(following, return_exceptions=True)
        await pieces.aclose()
