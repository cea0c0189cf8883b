"""Runs a generating request through the engine, and answers whole or as a stream."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from byollm.engine import Output, SamplingParams
from byollm.engine.async_engine import DIED
from byollm.engine.errors import (
    NOT_FINITE,
    AdmissionError,
    EngineClosedError,
    QueueFullError,
    SamplingParamsError,
)
from byollm.server.answers import Choice, Format, Tally, Usage
from byollm.server.metrics import RequestTimer
from byollm.server.model import Model
from byollm.server.service import Service, engine_failed, shutting_down
from byollm.web.disconnect import ClientGoneError, unless_disconnected
from byollm.web.errors import ApiError, internal_error
from byollm.web.streams import EventStream, send_json

if TYPE_CHECKING:  # brings torch, and the socket is to listen before that is loaded
    from byollm.engine import OutputStream

log = logging.getLogger(__name__)

FAILURES = {
    "queue_full": "overloaded",
    "shutting_down": "overloaded",
    "timeout": "timeout",
    "engine_failed": "error",
    "adapter_failed": "error",
    "internal_error": "error",
}


@dataclass(frozen=True)
class Job:
    """A request in the engine's terms.

    Attributes:
        prompts: token ids; each prompt gets `params.n` answers, numbered in order.
        params: how to sample.
        format: how to write the answer.
        answers: whether anything is to be generated; else every answer is empty.
        grammar_from: the request's parameter that the grammar comes from, if there is one.
    """

    prompts: list[list[int]]
    params: SamplingParams
    format: Format
    answers: bool = True
    grammar_from: str | None = None

    @property
    def choices(self) -> int:
        """How many answers there will be."""
        return len(self.prompts) * self.params.n


class EngineResponse(Response, ABC):
    """A response whose body the engine has yet to make.

    Args:
        service: admits the request and lends the engine.
        adapter: what the model is to work with.
    """

    def __init__(self, service: Service, adapter: str | None = None) -> None:
        super().__init__()
        self._service = service
        self._adapter = adapter
        self._request_id = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work and send, as an ASGI application."""
        self._request_id = scope["state"]["request_id"]
        try:
            with self._service.admission() as model:
                arrival = scope["state"]["arrival"]
                await unless_disconnected(receive, self._answer(model, send, arrival))
        except ClientGoneError:
            self._service.metrics.failed("disconnected")

    @abstractmethod
    async def _answer(self, model: Model, send: Send, arrival: float) -> None:
        """Do the work and send the answer."""

    def _failed(self, error: Exception) -> ApiError:
        told = tell(error, f"request {self._request_id}", self._adapter)
        self._service.metrics.failed(FAILURES.get(told.code or "", "refused"))
        return told


class Generation(EngineResponse):
    """The response that generates as it is sent.

    Args:
        service: admits the request and lends the engine.
        prepare: tokenises and checks the request once it is admitted.
        stream: answer with server-sent events.
        adapter: what the model is to answer with.
    """

    def __init__(
        self,
        service: Service,
        prepare: Callable[[Model], Awaitable[Job]],
        stream: bool,
        adapter: str | None = None,
    ) -> None:
        super().__init__(service, adapter)
        self._prepare = prepare
        self._stream = stream

    async def _answer(self, model: Model, send: Send, arrival: float) -> None:
        if self._stream:
            await self._answer_as_stream(model, send, arrival)
        else:
            await self._answer_whole(model, send, arrival)

    async def _answer_whole(self, model: Model, send: Send, arrival: float) -> None:
        choices: list[Choice] = []

        async def take(choice: int, output: Output) -> None:
            choices[choice].add(output)

        try:
            async with self._service.deadline(arrival, self._service.settings.request_timeout_s):
                job = await self._prepare(model)
                choices += [Choice() for _ in range(job.choices)]
                usage = await self._run(model, job, take, arrival)
        except Exception as error:
            raise self._failed(error) from None
        await send_json(send, await _write(job, partial(job.format.whole, choices, usage)))

    async def _answer_as_stream(self, model: Model, send: Send, arrival: float) -> None:
        settings = self._service.settings
        async with EventStream(send, settings.keep_alive_s) as stream:
            opening: list[bytes] = []

            async def take(choice: int, output: Output) -> None:
                events = job.format.events(choice, output)
                if events:
                    await stream.write((opening.pop() + events) if opening else events)

            try:
                async with self._service.deadline(arrival, settings.stream_timeout_s):
                    job = await self._prepare(model)
                    opening.append(await _write(job, job.format.opening))
                    usage = await self._run(model, job, take, arrival)
                    await stream.write(b"".join(opening) + job.format.closing(usage), last=True)
            except Exception as error:
                told = self._failed(error)
                if not stream.started:
                    raise told from None
                await stream.fail(told)

    async def _run(
        self, model: Model, job: Job, take: Callable[[int, Output], Awaitable[None]], arrival: float
    ) -> Usage:
        """Generate every choice, handing each increment to `take`; choices advance side by side."""
        metrics = self._service.metrics
        tally = Tally(job.params.n)
        timer = RequestTimer(metrics, job.choices, arrival)

        async def follow(first_choice: int, stream: OutputStream) -> None:
            async with aclosing(stream) as outputs:
                async for output in outputs:
                    if output.finish_reason in ("abort", "error"):
                        raise cut_off(output, job, self._adapter)
                    choice = first_choice + output.index
                    tally.note(choice, output)
                    timer.output(choice, output)
                    if output.finish_reason is not None:
                        metrics.finished(output.finish_reason)
                    await take(choice, output)

        prompts = job.prompts if job.answers else []
        streams = [
            model.engine.generate(
                prompt,
                job.params,
                f"{self._request_id}-{number}",
                whole=not self._stream,
                adapter=self._adapter,
            )
            for number, prompt in enumerate(prompts)
        ]
        if not job.answers:
            for choice in range(job.choices):
                read = len(job.prompts[choice // job.params.n])
                nothing = Output("", choice, read, 0, finish_reason="length")
                tally.note(choice, nothing)
                await take(choice, nothing)
        elif len(streams) == 1:
            await follow(0, streams[0])
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    for number, stream in enumerate(streams):
                        group.create_task(follow(number * job.params.n, stream))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        usage = tally.usage
        timer.end(usage.prompt_tokens, usage.completion_tokens)
        return usage


async def _write(job: Job, write: Callable[[], bytes]) -> bytes:
    """Log-probabilities are megabytes where the text is a line: they are written off the event loop."""
    return write() if job.params.logprobs is None else await asyncio.to_thread(write)


def cut_off(output: Output, job: Job, adapter: str | None) -> ApiError:
    """The error for an answer that the engine gave up."""
    if output.finish_reason == "abort":
        return shutting_down()
    if output.error == DIED:
        return engine_failed()
    if output.blames is not None:
        message = f"Invalid value for '{job.grammar_from}': {(output.error or '').removesuffix('.')}."
        return ApiError(400, message, param=job.grammar_from, code="invalid_value")
    log.error("the engine failed on request %s: %s", output.request_id, output.error)
    return internal_error() if adapter is None or output.error != NOT_FINITE else adapter_failed(adapter)


def adapter_failed(name: str) -> ApiError:
    """The error for an adapter that is well formed and yet makes no numbers."""
    message = (
        f"The adapter '{name}' drives the model to numbers that are not finite: its weights are damaged or "
        "far too large. Load another version of it, or unload it."
    )
    return ApiError(500, message, code="adapter_failed")


def tell(error: Exception, what: str = "a request", adapter: str | None = None) -> ApiError:
    """What the client is told of an error; an unexpected one is logged, and told without its inside.

    Args:
        error: what went wrong.
        what: the log says that this failed.
        adapter: what the model worked with.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), code="queue_full", retry_after=1)
    if isinstance(error, AdmissionError):
        return ApiError(400, str(error), param=error.param, code="invalid_value")
    if isinstance(error, SamplingParamsError):
        return ApiError(400, str(error), param=error.param, code="invalid_value")
    if isinstance(error, EngineClosedError):
        return shutting_down()
    if adapter is not None and NOT_FINITE in str(error):
        log.error("%s failed with the adapter %s: %s", what, adapter, error)
        return adapter_failed(adapter)
    log.error("%s failed", what, exc_info=error)
    return internal_error()
