"""An engine in a thread of the test, and a model that waits for it."""

import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, BinaryIO

from torch import Tensor

from byollm.engine import (
    AsyncEngine,
    Engine,
    SamplingParams,
)
from byollm.engine.messages import LENGTH
from byollm.engine.worker import serve
from byollm.modeling import Decoder
from byollm.settings.engine import EngineSettings

MakeEngine = Callable[..., Engine]
PROMPT = [5, 9, 40, 7]
GREEDY = SamplingParams(max_tokens=20, temperature=0)
LONG = SamplingParams(max_tokens=200, temperature=0)


class Gated(Decoder):
    """A model whose steps wait at a gate, so that a test decides when one happens."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder.config)
        self.load_state_dict(decoder.state_dict())
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.steps = 0
        self.fault: BaseException | None = None

    def forward(self, tokens: Tensor, positions: Tensor, attend: Any = None) -> Tensor:
        self.entered.set()
        self.steps += 1
        assert self._may_go_on()
        if self.fault is not None:
            raise self.fault
        return super().forward(tokens, positions, attend)

    def _may_go_on(self) -> bool:
        return self.gate.wait(30)


class Stepped(Gated):
    """One that makes as many steps as it is allowed."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder)
        self.allowed = threading.Semaphore(0)

    def _may_go_on(self) -> bool:
        return self.allowed.acquire(timeout=30)


class Counted:
    """A file of messages that counts them: one is handed on when the head of the next is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self.handed_on = -1
        self.close = file.close
        self._file = file

    def read(self, size: int, /) -> bytes | None:
        self.handed_on += size == LENGTH.size
        return self._file.read(size)


class Beside:
    """An engine in a thread of this process, so that a test can reach into it."""

    def __init__(self, engine: Engine, stall_seconds: float = 60, interval: float = 0) -> None:
        self.link, self._theirs = socket.socketpair()
        self.engine = engine
        settings = EngineSettings(max_running=8, max_batch_tokens=16, stall_seconds=stall_seconds)
        self.settings = settings.model_copy(update={"stream_interval_s": interval})  # also a longer one
        self.told = Counted(self._theirs.makefile("rb"))
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        with self._theirs, closing(self.told), suppress(LookupError, SystemExit):
            try:
                serve(self.engine, self._theirs, self.told, self.settings)
            finally:
                self._theirs.shutdown(socket.SHUT_RDWR)

    def dump(self) -> None:
        pass

    def end(self) -> None:
        self.thread.join(30)
        assert not self.thread.is_alive()


@asynccontextmanager
async def running(
    engine: Engine, stall_seconds: float = 60, interval: float = 0
) -> AsyncIterator[AsyncEngine]:
    subject = AsyncEngine(Beside(engine, stall_seconds, interval), stall_seconds)
    await subject.start()
    try:
        yield subject
    finally:
        await subject.stop()
