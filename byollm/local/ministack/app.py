"""ministack's ASGI app, corrected and kept on disk."""

import asyncio

from ministack import app as ministack
from ministack.core import persistence
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from byollm.local.cloudformation import install_providers
from byollm.local.ministack.corrections import correct
from byollm.local.ministack.environment import STATE
from byollm.local.ministack.log_events import LogEvents
from byollm.local.ministack.objects import refuse_unwritten
from byollm.local.ministack.resume import resume
from byollm.local.ministack.snapshots import Snapshots
from byollm.local.world import World


def build_app(world: World) -> ASGIApp:
    """Return ministack with the providers and corrections of this package in it."""
    install_providers(world)
    correct(world)
    refuse_unwritten(world.directory)
    LogEvents(world.directory / STATE / "logs.sqlite").install()
    snapshots = Snapshots(world.directory / STATE / "state")
    # Ours, when it is ended: its own would write into the same folder file by file.
    ministack.save_all = lambda services: None
    snapshots.recover()
    persistence.STATE_DIR = str(world.directory / STATE / "state")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(world, snapshots, scope, receive, send)
        else:
            await ministack.app(scope, receive, send)

    return app


async def _live(world: World, snapshots: Snapshots, scope: Scope, receive: Receive, send: Send) -> None:
    """Start and end with the server, which goes on to end once it is told that all is saved."""
    ended = asyncio.Event()
    keeper = asyncio.create_task(snapshots.keep(ended), name="keep snapshots")

    tasks = [keeper]

    async def send_when_saved(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            tasks.append(asyncio.create_task(resume(world), name="resume stacks"))
        if message["type"] == "lifespan.shutdown.complete":
            ended.set()
            await keeper
        await send(message)

    await ministack.app(scope, receive, send_when_saved)
