"""What all routes share: the engine once it is loaded, and whether work is admitted."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

from byollm.engine import EngineStats
from byollm.server.metrics import Metrics
from byollm.server.model import Model
from byollm.settings.server import ServerSettings
from byollm.web.body import BodyReader
from byollm.web.errors import ApiError

log = logging.getLogger(__name__)

MOST_NAMED = 20  # in an error
STOP_S = 1.0  # how long the engine may take to end what still runs

Status = Literal["loading", "ready", "draining", "failed"]


class Service:
    """Holds the model through its life: loading in the background, ready, draining, stopped.

    Args:
        load: makes the model, while the socket answers.
        settings: the server's settings.
        model_name: the name that clients ask for.
    """

    def __init__(
        self, load: Callable[[], Awaitable[Model]], settings: ServerSettings, model_name: str
    ) -> None:
        self.settings = settings
        self.model_name = model_name
        self.created = int(time.time())
        self.metrics = Metrics(model_name, self.stats)
        self.bodies = BodyReader(settings.max_body_bytes, settings.request_timeout_s)
        self.draining = False
        self.failure: BaseException | None = None
        self._load = load
        self._loading: asyncio.Task[None] | None = None
        self._model: Model | None = None
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._settled = asyncio.Event()
        self._interrupted = False
        self._stopping = False
        self._deadlines: set[asyncio.Timeout] = set()

    def start(self) -> None:
        """Begin to load the model. Call it in the event loop."""
        self._loading = asyncio.create_task(self._run_load())

    async def _run_load(self) -> None:
        try:
            self._model = await self._load()
            # What is there now stays: the collector need not look through it again and again.
            gc.collect()
            gc.freeze()
        except Exception as error:
            self.failure = error
        finally:
            self._settled.set()

    async def give_up_engine(self) -> None:
        """End an engine that no longer moves; before, it writes where it stands to standard error."""
        if self._model is not None:
            await self._model.engine.give_up()

    async def settled(self) -> None:
        """Wait until the model is loaded, or has failed to load: see `failure`."""
        await self._settled.wait()

    async def stop(self) -> None:
        """Stop the engine, or its loading."""
        self._stopping = True
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        if self._model is not None:
            await self._model.engine.stop(STOP_S)

    @property
    def status(self) -> Status:
        """Where it is in its life."""
        if self.failure is not None:
            return "failed"
        if self._model is None:
            return "draining" if self.draining else "loading"
        if not self._model.engine.healthy and not self._stopping:  # one that was told to end did not fail
            return "failed"
        return "draining" if self.draining else "ready"

    @property
    def device(self) -> str | None:
        """Where the model runs, once it is loaded."""
        return None if self._model is None else self._model.info.device

    def stats(self) -> EngineStats | None:
        """The engine's counters, once there is an engine."""
        return None if self._model is None else self._model.engine.stats()

    @property
    def model(self) -> Model:
        """The model and its engine.

        Raises:
            ApiError: 503, the model is still loading, or the engine has died.
        """
        status = self.status
        if status == "failed":
            raise engine_failed()
        if self._model is None:
            raise ApiError(
                503, "The model is still loading. Try again soon.", code="model_loading", retry_after=2
            )
        return self._model

    def choose(self, name: str) -> str | None:
        """Return the adapter that a model's name stands for; None for the model as it is.

        Raises:
            ApiError: 404, neither is served here.
        """
        if name == self.model_name:
            return None
        adapters = None if self._model is None else self._model.adapters
        if adapters is not None and name in adapters:
            return name
        there = [] if adapters is None else [adapter.name for adapter in adapters.served]
        if len(there) > MOST_NAMED:
            there[MOST_NAMED:] = [f"{len(there) - MOST_NAMED} more"]
        beside = f", and the adapters {', '.join(there)}" if there else ""
        raise ApiError(
            404,
            f"The model '{name[:256]}' does not exist. This server serves '{self.model_name}'{beside}.",
            param="model",
            code="model_not_found",
        )

    @contextmanager
    def admission(self) -> Iterator[Model]:
        """Hold a place among the generating requests.

        Raises:
            ApiError: 503 while loading, draining or broken; 429 when all places are taken.
        """
        try:
            model = self._admit()
        except ApiError:
            self.metrics.failed("overloaded")
            raise
        self._active += 1
        self._idle.clear()
        try:
            yield model
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    def _admit(self) -> Model:
        if self.draining:
            raise shutting_down()
        model = self.model
        if self._active >= self.settings.max_requests:
            raise ApiError(
                429,
                f"The server holds {self._active} requests, as many as it may. Try again soon.",
                code="queue_full",
                retry_after=1,
            )
        return model

    @asynccontextmanager
    async def deadline(self, arrival: float, seconds: float) -> AsyncIterator[None]:
        """Bound what is done for an admitted request; `interrupt` brings the deadline forward.

        Args:
            arrival: the event loop's time when the request came.
            seconds: how long after that the answer has to be complete.

        Raises:
            ApiError: 504 when the time is up; 503 when interrupted.
        """
        try:
            async with asyncio.timeout_at(arrival + seconds) as deadline:
                self._deadlines.add(deadline)
                try:
                    yield
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            if self._interrupted:
                raise (engine_failed() if self.status == "failed" else shutting_down()) from None
            message = f"The answer was not complete within {seconds:g} s. Ask for fewer tokens."
            raise ApiError(504, message, code="timeout") from None

    def interrupt(self) -> None:
        """End every running request now with an error."""
        self._interrupted = True
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(0)

    async def drain(self) -> None:
        """Admit nothing more; return when all requests have finished, or were told that they are cut off."""
        self.draining = True
        if await self._finished_within(self.settings.drain_s):
            return
        log.warning(
            "%d requests did not finish within %g s and are cut off", self._active, self.settings.drain_s
        )
        self.interrupt()
        await self._finished_within(STOP_S)

    async def _finished_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True


def engine_failed() -> ApiError:
    """The error for work that a dead engine cannot do."""
    return ApiError(503, "The engine has failed, and the server is about to stop.", code="engine_failed")


def shutting_down() -> ApiError:
    """The error for work that comes, or is still unfinished, when the server stops."""
    return ApiError(503, "The server is shutting down. Try again.", code="shutting_down", retry_after=5)
