"""An emulated AWS of a test's own: services of ours before moto, behind one address."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import httpx
import pytest
import uvicorn
from moto.server import ThreadedMotoServer
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from byollm.local.clock import Clock
from byollm.local.world import World


class Service(Protocol):
    """What a front runs."""

    app: ASGIApp

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


Front = Callable[..., AbstractContextManager[World]]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a moto server, for S3, CloudWatch and the like; its state is shared by all tests."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def front(moto: str) -> Front:
    """`with front(directory, services, factor) as world:`, where `services(world)` are by signing name."""

    @contextmanager
    def running(
        directory: Path, services: Callable[[World], Mapping[str, Service]], factor: float = 1.0
    ) -> Iterator[World]:
        config = uvicorn.Config(
            _nothing,
            host="127.0.0.1",
            port=0,
            log_level="warning",
            lifespan="off",
            timeout_keep_alive=75,  # as the platform's own: no client finds its connection just closed
        )
        socket = config.bind_socket()
        socket.listen()  # who comes before the server does waits
        world = World(directory, socket.getsockname()[1], "ca-central-1", clock=Clock(factor))
        ours = services(world)
        config.app = _Routes({name: service.app for name, service in ours.items()}, moto)
        server = uvicorn.Server(config)

        ending = threading.Event()

        async def serve() -> None:
            serving = asyncio.create_task(server.serve([socket]))
            for service in ours.values():
                await service.start()
            await asyncio.to_thread(ending.wait)
            for service in ours.values():
                await service.stop()
            server.should_exit = True
            await serving

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        try:
            yield world
        finally:
            ending.set()
            thread.join()

    return running


class _Routes:
    def __init__(self, ours: Mapping[str, ASGIApp], moto: str) -> None:
        self._ours, self._moto = ours, httpx.AsyncClient(base_url=moto, timeout=60)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        credential = request.headers.get("authorization", "").partition("Credential=")[2].split("/")
        name = credential[3] if len(credential) > 3 else ""
        if name in self._ours:
            await self._ours[name](scope, receive, send)
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = {key: value for key, value in request.headers.items() if key != "transfer-encoding"}
        body = await request.body()
        answer = await self._moto.request(request.method, target.decode(), headers=headers, content=body)
        response = Response(answer.content, answer.status_code)
        response.raw_headers = [
            (key, value) for key, value in answer.headers.raw if key.lower() != b"transfer-encoding"
        ]
        await response(scope, receive, send)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError
