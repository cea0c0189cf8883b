"""The child process itself, `python -m byollm.local.ministack`, which only the front process starts."""

import asyncio
import fcntl
import logging
import os
import socket
import sys
from pathlib import Path
from typing import IO

import uvicorn

from byollm.local.clock import Clock
from byollm.local.ministack.environment import STATE, prepare
from byollm.local.tether import end_with_parent
from byollm.local.world import World

_GRACE = 5  # seconds that requests get to end in


def main() -> None:
    """Serve until SIGTERM, then save what is remembered."""
    path, directory, port, region, account, factor, began = sys.argv[1:]
    end_with_parent(int(os.environ["BYOLLM_PARENT"]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("persistence", "httpx", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    world = World(Path(directory), int(port), region, account, Clock(float(factor), float(began)))
    lock = _take(world.directory / STATE)
    prepare(os.environ, world)
    # It reads its environment when it is imported.
    from byollm.local.ministack.app import build_app

    config = uvicorn.Config(
        build_app(world),
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=75,
    )
    asyncio.run(_serve(config, _listen(Path(path)), lock))


async def _serve(config: uvicorn.Config, listener: socket.socket, lock: IO[bytes]) -> None:
    await uvicorn.Server(config).serve(sockets=[listener])
    lock.close()  # all is saved; functions that still run have no part in it


def _take(folder: Path) -> IO[bytes]:
    """Hold the state, once the ministack of a platform that was killed has saved what it knows."""
    folder.mkdir(exist_ok=True)
    lock = (folder / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _listen(path: Path) -> socket.socket:
    """Listen where only this user may knock."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    return listener


if __name__ == "__main__":
    main()
