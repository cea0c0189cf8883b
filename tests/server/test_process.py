"""The serving process beside an engine that takes its time."""

import asyncio
import socket
from types import SimpleNamespace
from typing import cast

import pytest
import uvicorn

from byollm.server import process
from byollm.server.app import create_app
from byollm.server.model import Model
from byollm.server.process import Process
from byollm.server.service import Service
from byollm.settings.server import ServerSettings


class SlowlyEnding:
    """An engine whose process is gone long before the machine has cleared it away."""

    healthy = True

    async def stop(self, timeout: float) -> None:
        self.healthy = False
        for _ in range(100):  # rounds of the event loop in which the watch looks again and again
            await asyncio.sleep(0.002)

    async def give_up(self) -> None:
        pass


def test_an_engine_that_is_slow_to_end_when_told_to_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("WATCH_S", "SECOND_LOOK_S", "LAST_WORDS_S"):
        monkeypatch.setattr(process, pause, 0.001)
    monkeypatch.setattr(process, "end_process_after", lambda seconds: None)  # this is the tests' own process
    engine = SlowlyEnding()

    async def load() -> Model:
        return cast(Model, SimpleNamespace(engine=engine))

    service = Service(load, ServerSettings(), "tiny")
    config = uvicorn.Config(create_app(service), log_config=None)

    def announced() -> None:
        server.handle_exit(15, None)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Process(config, service, announced, patience=60)
        asyncio.run(server.serve(sockets=[listener]))
    assert server.failure is None
    assert not engine.healthy
