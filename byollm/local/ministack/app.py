"""ministack's ASGI app, corrected and kept on disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ministack import app as ministack
from ministack.core import persistence
from starlette.types import ASGIApp, Receive, Scope, Send

from byollm.local.cloudformation import install_providers
from byollm.local.ministack.corrections import correct
from byollm.local.ministack.environment import STATE
from byollm.local.ministack.snapshots import Snapshots
from byollm.local.world import World


def build_app(world: World) -> ASGIApp:
    """Return ministack with the providers and corrections of this package in it."""
    install_providers(world)
    correct(world)
    snapshots = Snapshots(world.directory / STATE / "state")
    # Ours, when it is ended: its own would write into the same folder file by file.
    ministack.save_all = lambda services: None
    snapshots.recover()
    persistence.STATE_DIR = str(world.directory / STATE / "state")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with _saved(snapshots):
                await ministack.app(scope, receive, send)
        else:
            await ministack.app(scope, receive, send)

    return app


@asynccontextmanager
async def _saved(snapshots: Snapshots) -> AsyncIterator[None]:
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(snapshots.keep(ended))
        try:
            yield
        finally:
            ended.set()
