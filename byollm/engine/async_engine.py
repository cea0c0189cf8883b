"""The engine in a thread of its own, spoken to from an event loop."""

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

from byollm.engine.engine import Engine
from byollm.engine.errors import AdmissionError, EngineClosedError, EngineError
from byollm.engine.outputs import EngineStats, Output
from byollm.engine.sampling_params import SamplingParams

logger = logging.getLogger(__name__)

T = TypeVar("T")

IDLE_SECONDS = 1.0  # how often an idle engine shows that it lives


class OutputStream(AsyncIterator[Output]):
    """The increments of one call, of all its n sequences, as they come.

    A reader that falls behind stalls nobody: increments of one sequence that it has not read are merged into
    one, so at most one per sequence is kept. Closing the stream, cancelling a task that waits for it, or
    dropping it, aborts the request.
    """

    def __init__(
        self, request_id: str, prompt_tokens: int, sequences: int, abort: Callable[[], None]
    ) -> None:
        self.request_id = request_id
        self._prompt_tokens = prompt_tokens
        self._counts = dict.fromkeys(
            range(sequences), 0
        )  # completion tokens of the sequences not yet finished
        self._abort = abort
        self._unread: dict[int, Output] = {}  # by index
        self._ready = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output:
        while not self._unread:
            if not self._counts:
                raise StopAsyncIteration
            self._ready.clear()
            try:
                await self._ready.wait()
            except asyncio.CancelledError:
                await self.aclose()
                raise
        return self._unread.pop(next(iter(self._unread)))

    async def aclose(self) -> None:
        """Abort the request if it still runs; nothing more comes."""
        self._unread.clear()
        if self._counts:
            self._counts.clear()
            self._abort()
        self._ready.set()

    def __del__(self) -> None:
        if self._counts:
            self._abort()

    def _push(self, output: Output) -> None:
        """Take an increment; on the event loop."""
        if output.index not in self._counts:
            return  # closed
        self._counts[output.index] = output.completion_tokens
        if output.finish_reason is not None:
            del self._counts[output.index]
        if (unread := self._unread.get(output.index)) is not None:
            unread.merge(output)
        else:
            self._unread[output.index] = output
        self._ready.set()

    def _fail(self, error: str) -> None:
        """End what is unfinished, when the engine cannot do it; on the event loop."""
        for index, count in list(self._counts.items()):
            self._push(
                Output(self.request_id, index, self._prompt_tokens, count, finish_reason="error", error=error)
            )


class AsyncEngine:
    """Runs an `Engine` in one thread and serves one event loop, the one that first calls `generate`.

    Once started, only that thread touches the engine. Calls reach it through a queue that it reads between
    two steps; increments go back through a mailbox that wakes the event loop at most once a step.

    Args:
        engine: the engine to run; nobody else may step it.
        stall_seconds: a step that takes longer makes the engine unhealthy.
    """

    def __init__(self, engine: Engine, stall_seconds: float) -> None:
        self.engine = engine
        self._stall_seconds = stall_seconds
        self.last_progress = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="byollm-engine", daemon=True)
        self._commands: deque[Callable[[], list[Output] | None]] = deque()
        self._readings: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._draining = False
        # Below: touched by the event loop only, but for the mailbox.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: WeakValueDictionary[str, OutputStream] = WeakValueDictionary()
        self._open: dict[str, int] = {}  # sequences that the engine has not finished, by request
        self._open_total = 0
        self._awaited: set[asyncio.Future[Any]] = set()
        self._all_done = asyncio.Event()
        self._mailbox: list[Output] = []
        self._mailbox_lock = threading.Lock()

    def start(self) -> None:
        """Start the engine's thread. An engine is started once.

        Raises:
            EngineError: it was started before.
        """
        if self._thread.ident is not None:
            raise EngineError("this engine was started before: make a new one")
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the thread lives and is idle or finished its last step in time."""
        return self._thread.is_alive() and time.monotonic() - self.last_progress < self._stall_seconds

    def stats(self) -> EngineStats:
        """Return the engine's counters and gauges."""
        return self.engine.stats()

    def generate(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        request_id: str | None = None,
        salt: str = "",
    ) -> OutputStream:
        """Queue a call at once and return the stream of its increments; call it on the event loop.

        Calls share the cache of common beginnings only where their `salt` is equal.

        Raises:
            AdmissionError: the call can never be served, or the queue is full (QueueFullError).
            EngineClosedError: the engine is not running or takes no more requests.
        """
        self._check_open()
        request_id = request_id or f"request-{uuid.uuid4().hex}"
        if request_id in self._open:
            raise AdmissionError(
                f"a request with the id {request_id!r} is running: choose another", "request_id"
            )
        self.engine.limits.check_room(self._open_total, params.n)
        requests = self.engine.make_requests(request_id, prompt_token_ids, params, salt)
        abort = partial(self._command, partial(self.engine.abort, request_id))
        stream = OutputStream(request_id, len(prompt_token_ids), params.n, abort)
        self._streams[request_id] = stream
        self._open[request_id] = params.n
        self._open_total += params.n
        self._command(partial(self.engine.add, requests))
        return stream

    def between_steps(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have the engine's thread do `work` between two of its steps; call it on the event loop.

        One such piece is done before each step, so those who are being answered wait for one piece a token.

        Raises:
            EngineClosedError: the engine is not running or takes no more requests.
        """
        loop = self._check_open()
        future: asyncio.Future[T] = loop.create_future()
        self._awaited.add(future)
        future.add_done_callback(self._awaited.discard)

        def read() -> None:
            if future.cancelled():
                return
            try:
                result = work()
            except Exception as error:
                self._call_loop(partial(_fail, future, error))
            else:
                self._call_loop(partial(_fulfil, future, result))

        self._readings.append(read)
        self._wake.set()
        return future

    def _check_open(self) -> asyncio.AbstractEventLoop:
        """Return the event loop, if this is the one served and the engine takes requests."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise EngineError("this engine serves another event loop: make all calls from one loop")
        if self._draining or self._stopping or not self._thread.is_alive():
            raise EngineClosedError(
                "the engine takes no requests: it is not started, is shutting down, or has died"
            )
        return loop

    async def drain(self, timeout: float | None = None) -> bool:
        """Take no more requests and finish those taken; False if that needs more than `timeout` seconds."""
        self._draining = True
        if self._open:
            self._all_done.clear()
            try:
                await asyncio.wait_for(self._all_done.wait(), timeout)
            except TimeoutError:
                return False
        return True

    def stop(self, timeout: float = 10.0) -> None:
        """End what still runs with finish_reason "abort", and then the thread; waits for it."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _command(self, command: Callable[[], list[Output] | None]) -> None:
        """Have the engine's thread call `command` before its next step. From any thread."""
        self._commands.append(command)
        self._wake.set()

    def _run(self) -> None:
        """The engine's thread."""
        try:
            while not self._stopping:
                self._wake.clear()
                self._take_commands()
                if self._readings:
                    self._readings.popleft()()
                if self.engine.has_unfinished():
                    self._publish(self._step())
                elif not self._readings:
                    self._wake.wait(min(IDLE_SECONDS, self._stall_seconds / 2))
                self.last_progress = time.monotonic()
            self._take_commands()
            self._publish(self.engine.abort_all())
        except BaseException:  # whatever ends this thread ends the engine
            logger.exception("the engine died")
        finally:
            self._stopping = True
            self._call_loop(self._fail_open)

    def _take_commands(self) -> None:
        while self._commands:
            self._publish(self._commands.popleft()() or [])

    def _step(self) -> list[Output]:
        try:
            return self.engine.step()
        except Exception as error:
            logger.exception("a step failed; all that is running is ended")
            outputs = self.engine.fail_running(error)
            if not outputs:  # it would fail the same way for ever
                raise
            return outputs

    def _publish(self, outputs: list[Output]) -> None:
        """Put increments into the mailbox, and wake the event loop unless it is to look there anyway."""
        if not outputs:
            return
        with self._mailbox_lock:
            wake = not self._mailbox
            self._mailbox += outputs
        if wake:
            self._call_loop(self._deliver)

    def _call_loop(self, callback: Callable[[], None]) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody is left to serve
            self._stopping = True

    def _deliver(self) -> None:
        """Hand out what is in the mailbox; on the event loop."""
        with self._mailbox_lock:
            outputs, self._mailbox = self._mailbox, []
        for output in outputs:
            if (stream := self._streams.get(output.request_id)) is not None:
                stream._push(output)
            if output.finish_reason is not None:
                self._open_total -= 1
                self._open[output.request_id] -= 1
                if self._open[output.request_id] == 0:
                    del self._open[output.request_id]
        if not self._open:
            self._all_done.set()

    def _fail_open(self) -> None:
        """End the streams that the thread has left open; on the event loop."""
        for request_id in self._open:
            if (stream := self._streams.get(request_id)) is not None:
                stream._fail("the engine died; its log has the details")
        for future in list(self._awaited):
            _fail(future, EngineClosedError("the engine has stopped"))
        self._open.clear()
        self._open_total = 0
        self._all_done.set()


def _fulfil(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
