"""The front process: the door, the services that live in it, and ministack as its child."""

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from byollm.local.alarms import Alarms
from byollm.local.child import Child
from byollm.local.door import Door, Health
from byollm.local.proxy import Proxy
from byollm.local.room import Room
from byollm.local.world import World

log = logging.getLogger(__name__)

# What children get of this process's environment: never the credentials of a real account.
_HANDED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "OMP_NUM_THREADS", "VIRTUAL_ENV")


class Part(Protocol):
    """Something of the platform that runs in the front process."""

    async def start(self) -> None:
        """Resume what ran before; the front door answers already."""

    async def stop(self) -> None:
        """End what runs, in order."""


class Service(Part, Protocol):
    """An emulated service."""

    @property
    def app(self) -> ASGIApp:
        """What answers its requests."""


class Front:
    """The whole platform as one ASGI app.

    Args:
        world: where it stands.
        services: by the signing name that requests for them carry, in the order they are started.
    """

    def __init__(self, world: World, services: Mapping[str, Service]) -> None:
        self._parts: list[Part] = [*services.values(), Alarms(world)]
        self._health: Health = {"ready": False, "pid": os.getpid(), "directory": str(world.directory)}
        self._socket = _socket_of(world)
        self._rest = Proxy(self._socket)
        self._child = Child(
            "ministack",
            [sys.executable, "-m", "byollm.local.ministack", str(self._socket), *_place(world)],
            {name: os.environ[name] for name in _HANDED_ON if name in os.environ},
            world.directory / "logs" / "ministack.log",
            self._answers,
        )
        apps = {name: service.app for name, service in services.items()}
        self._door = Door(apps, self._rest, self._health, Room(world.directory))
        self._started: list[Part] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the door does; start and stop with the server."""
        if scope["type"] != "lifespan":
            await self._door(scope, receive, send)
            return
        await receive()
        starting = asyncio.create_task(self._start(), name="start the platform")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        starting.cancel()
        await asyncio.wait([starting])
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            self._socket.unlink(missing_ok=True)  # a killed platform's ministack may still listen there
            await self._child.start()
            if self._child.failed:
                raise RuntimeError(self._child.failed)
            for part in self._parts:
                self._started.append(part)
                await part.start()
        except Exception as error:
            log.exception("the platform does not start")
            self._health["failed"] = str(error)
        else:
            self._health["ready"] = True
            log.info("ready")

    async def _stop(self) -> None:
        self._health["ready"] = False
        for part in reversed(self._started):
            try:
                await part.stop()
            except Exception:
                log.exception("%s did not stop in order", type(part).__name__)
        await self._child.stop()
        await self._rest.close()
        self._socket.unlink(missing_ok=True)

    async def _answers(self) -> bool:
        transport = httpx.AsyncHTTPTransport(uds=str(self._socket))
        async with httpx.AsyncClient(transport=transport) as client:
            try:
                answer = await client.get("http://localhost/_ministack/health")
            except httpx.TransportError:
                return False
            return answer.status_code == httpx.codes.OK


def _socket_of(world: World) -> Path:
    # Not in the world's directory, whose path may be longer than a socket's may be.
    return Path(tempfile.gettempdir()) / f"byollm-{os.getuid()}-{world.port}.socket"


def _place(world: World) -> Sequence[str]:
    """Write a world as ministack's process is told it."""
    clock = (str(world.clock.factor), str(world.clock.began))
    return (str(world.directory), str(world.port), world.region, world.account, *clock)
