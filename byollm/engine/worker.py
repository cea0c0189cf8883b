"""The engine's process: a loop of steps that does between them what it is told over a socket."""

import gc
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple

from byollm.engine.errors import GrammarError
from byollm.engine.messages import (
    Abort,
    Add,
    Embed,
    File,
    Load,
    LoadAdapter,
    Loaded,
    Progress,
    Read,
    Refused,
    Score,
    Stop,
    UnloadAdapter,
    pack,
    receive,
)
from byollm.engine.outputs import Output
from byollm.engine.step import Failure, failure_of
from byollm.engine.step_engine import R, Reading, StepEngine
from byollm.engine.watchdog import end_process_after
from byollm.settings import ByollmError
from byollm.settings.engine import EngineSettings

logger = logging.getLogger(__name__)

IDLE_SECONDS = 1.0  # how often an idle engine shows that it lives,
TELL_SECONDS = 0.02  # and one that has nothing to hand out
WATCH_SECONDS = 1.0  # how often the watchdog is told that all is well
PATIENCE_SECONDS = 5.0  # beyond the time after which the other side ends a wedged engine


class _Held(NamedTuple):
    """Increments of a sequence, merged, and when the first of them came."""

    output: Output
    since: float


class Worker(Generic[R]):
    """Steps an engine while there is work, and speaks to the other end of a socket between the steps.

    Every turn of its loop ends with a `Progress`, unless there is nothing to hand out and one was just sent:
    so silence means that a step does not end.

    Args:
        engine: nobody else may step it.
        link: a connected stream socket, to send to.
        settings: the engine's.
    """

    def __init__(self, engine: StepEngine[R], link: socket.socket, settings: EngineSettings) -> None:
        self._engine = engine
        self._link = link
        self._interval_seconds = settings.stream_interval_s
        self._idle_seconds = min(IDLE_SECONDS, settings.stall_seconds / 4)
        self._commands: SimpleQueue[Callable[[], list[Output] | None]] = SimpleQueue()
        self._preparing: dict[str, Add] = {}  # calls whose grammar is being compiled
        self._readings: deque[tuple[str, Reading]] = deque()
        self._held: dict[tuple[str, int], _Held] = {}  # by call and index
        self._whole: set[tuple[str, int]] = set()  # sequences whose increments are held back to the end
        self._due = 0.0  # when the others' go next
        self._told = 0.0  # when the last Progress was sent
        self._stopping = False

    def run(self, patience: float | None) -> None:
        """Work until told to stop.

        Args:
            patience: seconds without a turn of the loop after which the process is ended, whatever holds it;
                None: never.

        Raises:
            OSError: nobody listens any more.
        """
        watched = 0.0
        while not self._stopping:
            if patience is not None and (now := time.monotonic()) > watched + WATCH_SECONDS:
                end_process_after(patience)
                watched = now
            self._turn()
        aborted = [output for call_id in list(self._preparing) for output in self._abort(call_id)]
        aborted += self._engine.abort_all()
        self._send(Progress(self._hold_back(aborted), self._engine.stats()))

    def _turn(self) -> None:
        outputs = self._take_commands()
        if self._readings:
            self._read(*self._readings.popleft())
        if self._engine.has_unfinished():
            outputs += self._step()
        ready = self._hold_back(outputs)
        now = time.monotonic()
        if ready or now > self._told + TELL_SECONDS:  # a message costs as much as a token
            self._send(Progress(ready, self._engine.stats()))
            self._told = now

    def _take_commands(self) -> list[Output]:
        """Do what was asked for since the last step; wait for something if there is nothing else to do."""
        outputs: list[Output] = []
        idle = not self._engine.has_unfinished() and not self._readings
        with suppress(Empty):
            command = self._commands.get(block=idle, timeout=self._idle_seconds)
            while True:
                outputs += command() or []
                command = self._commands.get_nowait()
        return outputs

    def _step(self) -> list[Output]:
        try:
            return self._engine.step()
        except Exception as error:
            logger.exception("a step failed; all that is running is ended")
            outputs = self._engine.fail_running(error)
            if not outputs:  # it would fail the same way for ever
                raise
            return outputs

    def _hold_back(self, outputs: list[Output]) -> list[Output]:
        """Keep increments that are not due yet; return those that may go.

        The first and the last of a sequence go at once, the others together with those of other sequences:
        who hands them on is woken once for all, and leaves the processor to the steps meanwhile.
        """
        now = time.monotonic()
        ready = []
        for output in outputs:
            sequence = (output.request_id, output.index)
            if (held := self._held.get(sequence)) is None:
                self._held[sequence] = held = _Held(output, now)
            else:
                held.output.merge(output)
            ended = output.finish_reason is not None
            first = output.completion_tokens == len(output.token_ids)
            if ended or (first and sequence not in self._whole):
                ready.append(self._release(sequence, now))
            if ended:
                self._whole.discard(sequence)
        if now >= self._due:
            self._due = now + self._interval_seconds
            waiting = [sequence for sequence in self._held if sequence not in self._whole]
            ready += [self._release(sequence, now) for sequence in waiting]
        return ready

    def _release(self, sequence: tuple[str, int], now: float) -> Output:
        output, since = self._held.pop(sequence)
        output.seconds = now - since
        return output

    def _read(self, request_id: str, reading: Reading) -> None:
        """Read one more piece of a text."""
        try:
            next(reading)
        except StopIteration as end:
            self._send(Read(request_id, end.value, None))
        except Exception as error:
            logger.exception("a text could not be read")
            self._send(Read(request_id, None, f"{type(error).__name__}: {error}"))
        else:
            self._readings.append((request_id, reading))

    def _send(self, message: object) -> None:
        self._link.sendall(pack(message))

    def listen(self, file: File) -> None:
        """Queue what comes over the socket until the other side is gone; in a thread of its own."""
        with suppress(EOFError, OSError):
            while not isinstance(message := receive(file), Stop):
                self._commands.put(partial(self._obey, message))
        self._commands.put(self._stop)

    def _obey(
        self, message: Add | Abort | Score | Embed | LoadAdapter | UnloadAdapter
    ) -> list[Output] | None:
        match message:
            case Add():
                return self._add(message)
            case Abort():
                return self._abort(message.request_id)
            case Score(request_id, tokens, top, adapter):
                reading = self._engine.score(tokens, top, self._engine.adapters.find(adapter))
                self._readings.append((request_id, reading))
            case Embed(request_id, texts, adapter):
                reading = self._engine.embed(texts, self._engine.adapters.find(adapter))
                self._readings.append((request_id, reading))
            case LoadAdapter():
                read = partial(self._read_adapter, message)
                threading.Thread(target=read, name="byollm-read-adapter", daemon=True).start()
            case UnloadAdapter():
                self._answer(message.request_id, partial(self._engine.adapters.remove, message.name))
        return None

    def _read_adapter(self, message: LoadAdapter) -> None:
        """Read an adapter beside the steps, and have it added between two of them."""
        try:
            read = self._engine.adapters.read(message.name, message.directory, message.pinned)
        except Exception as error:
            add: Callable[[], None] = partial(_raise, error)
        else:
            add = partial(self._engine.adapters.add, *read)
        self._commands.put(partial(self._answer, message.request_id, add))

    def _answer(self, request_id: str, do: Callable[[], None]) -> None:
        """Do something with adapters, and say whether it was refused."""
        refusal, fault = None, None
        try:
            do()
        except ByollmError as error:
            refusal = error
        except Exception as error:
            logger.exception("an adapter could not be loaded or unloaded")
            fault = failure_of(error).reason
        self._send(Read(request_id, refusal, fault))

    def _stop(self) -> None:
        self._stopping = True

    def _add(self, call: Add) -> list[Output] | None:
        self._preparing[call.request_id] = call
        if call.whole:
            self._whole.update((call.request_id, index) for index in range(call.params.n))
        adapter = self._engine.adapters.find(call.adapter)  # of now, whatever is loaded meanwhile
        if self._engine.is_prepared(call.params):
            return self._prepare(call, adapter)()
        # One that takes long must not hold up others: a thread each.
        prepare = partial(self._prepare_beside, call, adapter)
        threading.Thread(target=prepare, name="byollm-compile-grammar", daemon=True).start()
        return None

    def _prepare_beside(self, call: Add, adapter: Any) -> None:
        self._commands.put(self._prepare(call, adapter))

    def _prepare(self, call: Add, adapter: Any) -> Callable[[], list[Output] | None]:
        """Make the sequences of a call, which may need its grammar compiled; return what is to follow."""
        try:
            requests = self._engine.make_requests(
                *call[:4], adapter, wanted=lambda: call.request_id in self._preparing
            )
        except GrammarError as error:
            return partial(self._refuse, call, Failure(str(error), "grammar"))
        except Exception as error:
            logger.exception("a call cannot be prepared")
            return partial(self._refuse, call, failure_of(error))
        return partial(self._queue, call, requests)

    def _queue(self, call: Add, requests: list[R]) -> None:
        if self._preparing.pop(call.request_id, None) is not None:
            self._engine.add(requests)

    def _refuse(self, call: Add, failure: Failure) -> list[Output]:
        if self._preparing.pop(call.request_id, None) is None:
            return []
        return _endings(call, finish_reason="error", error=failure.reason, blames=failure.blames)

    def _abort(self, request_id: str) -> list[Output]:
        if (call := self._preparing.pop(request_id, None)) is not None:
            return _endings(call, finish_reason="abort")
        for reading_id, reading in self._readings:
            if reading_id == request_id:
                reading.close()
        self._readings = deque(kept for kept in self._readings if kept[0] != request_id)
        return self._engine.abort(request_id)


def _raise(error: Exception) -> None:
    raise error


def _endings(call: Add, **why: Any) -> list[Output]:
    """The ends of sequences that were never begun."""
    return [Output(call.request_id, index, len(call.prompt), 0, **why) for index in range(call.params.n)]


def load_and_serve(link: socket.socket, file: File, load: Load) -> None:
    """Load a model and serve it over `link`; the body of the engine's process.

    Args:
        link: a connected stream socket.
        file: reads from it.
        load: what to load.
    """
    try:
        engine = _load(load)
    except ByollmError as error:
        link.sendall(pack(Refused(str(error))))
        return
    # What is there now stays: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    serve(engine, link, file, load.settings, load.settings.stall_seconds + PATIENCE_SECONDS)


def _load(load: Load) -> StepEngine[Any]:
    if load.settings.backend == "vllm":
        from byollm.engine.vllm_engine import VllmEngine

        return VllmEngine.load(load.directory, load.settings)
    from byollm.engine.engine import Engine
    from byollm.engine.runner import spare_threads

    engine = Engine.load(load.directory, load.settings)
    spare_threads(engine.runner)
    return engine


def serve(
    engine: StepEngine[R],
    link: socket.socket,
    file: File,
    settings: EngineSettings,
    patience: float | None = None,
) -> None:
    """Say what the engine is, and work until told to stop, or until nobody listens any more.

    Args:
        engine: nobody else may step it.
        link: a connected stream socket.
        file: reads from it.
        settings: the engine's.
        patience: see `Worker.run`.
    """
    worker = Worker(engine, link, settings)
    threading.Thread(target=worker.listen, args=(file,), name="byollm-listen", daemon=True).start()
    with suppress(BrokenPipeError, ConnectionResetError):
        link.sendall(pack(Loaded(engine.info, engine.stats())))
        worker.run(patience)
