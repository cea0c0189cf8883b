"""The engine, spoken to from an event loop; it runs elsewhere, at the other end of a socket."""

import asyncio
import select
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from byollm.engine.errors import AdmissionError, EngineClosedError, EngineError, UnknownAdapterError
from byollm.engine.messages import (
    LENGTH,
    Abort,
    Add,
    Embed,
    EngineInfo,
    LoadAdapter,
    Loaded,
    Progress,
    Read,
    Refused,
    Score,
    Stop,
    UnloadAdapter,
    pack,
    unpack,
)
from byollm.engine.output_stream import OutputStream
from byollm.engine.outputs import EngineStats, TokenLogprobs
from byollm.engine.sampling_params import SamplingParams

DUMP_S = 1.0  # for a dump to be written, on a busy machine too
DIED = "the engine died; its log has the details"


class Peer(Protocol):
    """Where the engine runs; see `EngineProcess`."""

    link: socket.socket

    def dump(self) -> None:
        """Write where its threads stand to standard error."""

    def end(self) -> None:
        """End it now if it still runs, and wait for it."""


class AsyncEngine:
    """Speaks for an engine at the other end of a socket, to one event loop: the one that starts it.

    Args:
        peer: where the engine runs.
        stall_seconds: a step that takes longer makes the engine unhealthy.
    """

    info: EngineInfo
    """What the engine is; there once it is started."""

    def __init__(self, peer: Peer, stall_seconds: float) -> None:
        self._peer = peer
        self._stall_seconds = stall_seconds
        self._last_progress = 0.0
        self._stats: EngineStats | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._closed = True
        self._streams: WeakValueDictionary[str, OutputStream] = WeakValueDictionary()
        self._open: dict[str, int] = {}  # sequences that the engine has not finished, by request
        self._open_total = 0
        self._readings: dict[str, asyncio.Future[Any]] = {}
        self._adapters: set[str] = set()
        self._all_done = asyncio.Event()

    async def start(self) -> None:
        """Wait until the engine is ready. An engine is started once.

        Raises:
            EngineError: it was started before, or cannot be loaded; the message says why.
        """
        if self._loop is not None:
            raise EngineError("this engine was started before: make a new one")
        self._loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._peer.link)
        match await _receive(reader):
            case Loaded(info, stats):
                self.info, self._stats = info, stats
            case Refused(reason):
                raise EngineError(reason)
            case _:
                raise EngineError("the engine died while it loaded the model; its log has the details")
        self._last_progress = time.monotonic()
        self._closed = False
        self._listening = asyncio.create_task(self._listen(reader))

    @property
    def healthy(self) -> bool:
        """Whether the engine lives and is idle or finished its last step in time."""
        if self._listening is None or self._listening.done():
            return False
        in_time = time.monotonic() - self._last_progress < self._stall_seconds
        return in_time or self._unread()  # it may be this process that was held up

    def _unread(self) -> bool:
        """Whether something from the engine has come and has not been looked at."""
        poll = select.poll()
        poll.register(self._peer.link, select.POLLIN)
        return bool(poll.poll(0))

    def stats(self) -> EngineStats:
        """Return the engine's counters and gauges, as they were after its last step."""
        assert self._stats is not None, "the engine is not started"
        return self._stats

    async def give_up(self) -> None:
        """Have an engine that no longer moves write where it stands to standard error, and end it."""
        self._peer.dump()
        await asyncio.sleep(DUMP_S)
        await asyncio.to_thread(self._peer.end)

    def generate(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        request_id: str | None = None,
        salt: str = "",
        whole: bool = False,
        adapter: str | None = None,
    ) -> OutputStream:
        """Queue a call at once and return the stream of its increments.

        Calls share the cache of common beginnings only where their `salt` is equal. A grammar that cannot be
        compiled ends the stream with an error that blames "grammar".

        Args:
            prompt_token_ids: what to continue.
            params: how.
            request_id: names the call; made up if not given.
            salt: see above.
            whole: whether each sequence is to come in one piece, when it has ended.
            adapter: the name of one that was loaded, to answer with.

        Raises:
            AdmissionError: the call can never be served, the queue is full (QueueFullError), or there is no
                such adapter (UnknownAdapterError).
            EngineClosedError: the engine is not running or takes no more requests.
        """
        self._check_open()
        self._check_adapter(adapter)
        request_id = request_id or f"request-{uuid.uuid4().hex}"
        if request_id in self._open:
            raise AdmissionError(
                f"a request with the id {request_id!r} is running: choose another", "request_id"
            )
        self.info.limits.check(prompt_token_ids, params)
        self.info.limits.check_room(self._open_total, params.n)
        abort = partial(self._abort, request_id)
        stream = OutputStream(request_id, len(prompt_token_ids), params.n, abort)
        self._streams[request_id] = stream
        self._open[request_id] = params.n
        self._open_total += params.n
        self._send(Add(request_id, list(prompt_token_ids), params, salt, whole, adapter))
        return stream

    async def load_adapter(self, name: str, directory: Path, pinned: bool = False) -> None:
        """Load an adapter, or a new version of it. Calls under way keep the version they began with.

        Args:
            name: what calls ask for.
            directory: as PEFT saves it; the engine's process reads it.
            pinned: whether it keeps the slot that it once got.

        Raises:
            ByollmError: it is no adapter for this model (AdapterError), there is no room for it
                (AdapterLimitError), or it cannot be done (EngineError).
        """
        await self._change(LoadAdapter(uuid.uuid4().hex, name, directory, pinned))
        self._adapters.add(name)

    async def unload_adapter(self, name: str) -> None:
        """Let an adapter no longer be asked for. Calls under way keep it to their end.

        Raises:
            EngineError: there is none of this name (UnknownAdapterError), or it cannot be done.
        """
        self._check_adapter(name)
        self._adapters.discard(name)  # at once: no call may come after the message
        await self._change(UnloadAdapter(uuid.uuid4().hex, name))

    async def _change(self, command: LoadAdapter | UnloadAdapter) -> None:
        self._check_open()
        refusal = await self._ask(command)
        if refusal is not None:
            raise refusal

    def _check_adapter(self, name: str | None) -> None:
        if name is not None and name not in self._adapters:
            raise UnknownAdapterError(
                f"there is no adapter {name!r}; there are: {', '.join(sorted(self._adapters)) or 'none'}",
                "model",
            )

    async def score(self, tokens: Sequence[int], top: int, adapter: str | None = None) -> list[TokenLogprobs]:
        """Return the log-probabilities of each token but the first; see `reader.score`.

        Raises:
            AdmissionError: the model cannot read it.
            EngineError: it cannot be done (EngineClosedError: as the engine is not running).
        """
        self._check_adapter(adapter)
        command = Score(uuid.uuid4().hex, list(tokens), top, adapter)
        result: list[TokenLogprobs] = await self._read([tokens], command)
        return result

    async def embed(self, texts: Sequence[Sequence[int]], adapter: str | None = None) -> list[bytes]:
        """Return the embedding of each text, as little-endian float32 numbers; see `reader.embed`.

        Raises:
            AdmissionError: the model cannot read one of them, or this engine does not embed.
            EngineError: it cannot be done (EngineClosedError: as the engine is not running).
        """
        if not self.info.embeds:
            raise AdmissionError(
                "this server's engine does not embed with the model that it generates with; name one that "
                "does in the setting server.embedding_model",
                "model",
            )
        self._check_adapter(adapter)
        command = Embed(uuid.uuid4().hex, list(map(list, texts)), adapter)
        result: list[bytes] = await self._read(texts, command)
        return result

    async def _read(self, texts: Sequence[Sequence[int]], command: Score | Embed) -> Any:
        self._check_open()
        for text in texts:
            self.info.limits.check_readable(text)
        return await self._ask(command)

    async def _ask(self, command: Score | Embed | LoadAdapter | UnloadAdapter) -> Any:
        """Send a command and wait for what comes of it."""
        loop = self._check_open()
        future = self._readings[command.request_id] = loop.create_future()
        self._send(command)
        try:
            return await future
        except asyncio.CancelledError:
            self._send(Abort(command.request_id))
            raise
        finally:
            self._readings.pop(command.request_id, None)

    def _check_open(self) -> asyncio.AbstractEventLoop:
        """Return the event loop, if this is the one served and the engine takes requests."""
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise EngineError("this engine serves another event loop: make all calls from one loop")
        if self._closed:
            raise EngineClosedError(
                "the engine takes no requests: it is not started, is shutting down, or has died"
            )
        return loop

    async def drain(self, timeout: float | None = None) -> bool:
        """Take no more requests and finish those taken; False if that needs more than `timeout` seconds."""
        self._closed = True
        if self._open:
            self._all_done.clear()
            try:
                await asyncio.wait_for(self._all_done.wait(), timeout)
            except TimeoutError:
                return False
        return True

    async def stop(self, timeout: float = 10.0) -> None:
        """End what still runs with finish_reason "abort", and then the engine; by force after `timeout`."""
        self._closed = True
        self._send(Stop())
        if self._listening is not None:
            await asyncio.wait([self._listening], timeout=timeout)
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()
        await asyncio.to_thread(self._peer.end)

    def _abort(self, request_id: str) -> None:
        """End a call; from any thread, as a stream that is dropped may be collected in any."""
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._send, Abort(request_id))

    def _send(self, message: object) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(pack(message))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hand out what comes, until nothing comes any more."""
        try:
            while (message := await _receive(reader)) is not None:
                self._last_progress = time.monotonic()
                if isinstance(message, Progress):
                    self._deliver(message)
                else:
                    self._settle(message)
        finally:
            self._closed = True
            self._fail_open()

    def _deliver(self, progress: Progress) -> None:
        self._stats = progress.stats
        for output in progress.outputs:
            if (stream := self._streams.get(output.request_id)) is not None:
                stream._push(output)
            if output.finish_reason is not None:
                self._open_total -= 1
                self._open[output.request_id] -= 1
                if self._open[output.request_id] == 0:
                    del self._open[output.request_id]
        if not self._open:
            self._all_done.set()

    def _settle(self, read: Read) -> None:
        future = self._readings.get(read.request_id)
        if future is None or future.done():  # nobody waits any more
            return
        if read.error is None:
            future.set_result(read.result)
        else:
            future.set_exception(EngineError(read.error))

    def _fail_open(self) -> None:
        """End what the engine has left open."""
        for request_id in self._open:
            if (stream := self._streams.get(request_id)) is not None:
                stream._fail(DIED)
        for future in self._readings.values():
            if not future.done():
                future.set_exception(EngineClosedError("the engine has stopped"))
        self._open.clear()
        self._open_total = 0
        self._all_done.set()


async def _receive(reader: asyncio.StreamReader) -> Any:
    """Wait for a message and return it; None when the other side is gone."""
    with suppress(asyncio.IncompleteReadError, OSError):
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        return unpack(await reader.readexactly(length))
    return None
