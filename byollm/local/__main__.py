"""`python -m byollm.local`: one emulated AWS in the foreground, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

import uvicorn

from byollm.local.clock import Clock
from byollm.local.front import Front
from byollm.local.launch import LOCK
from byollm.local.services import make_services
from byollm.local.world import World

_GRACE = 10  # seconds that requests get to end in
_LOOKED_FOR = 2.0  # seconds; who looks whether an emulated AWS runs holds its lock for an instant


def main() -> None:
    """Serve one world."""
    asked = _arguments()
    asked.directory.joinpath("logs").mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    world = World(asked.directory, asked.port, asked.region, clock=Clock(asked.clock_factor))
    lock = _take(world)  # noqa: F841 - held as long as the process lives
    listener = _listen(world.port)
    config = uvicorn.Config(
        Front(world, make_services(world)),
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=75,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m byollm.local", description=__doc__)
    parser.add_argument("--directory", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--region", required=True)
    parser.add_argument("--clock-factor", type=float, default=1.0)
    return parser.parse_args()


def _take(world: World) -> IO[str]:
    """Hold the directory, and say in it who does: two processes on one would spoil what is there."""
    lock = (world.directory / LOCK).open("a+")
    deadline = time.monotonic() + _LOOKED_FOR
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(f"{world.directory} is in use by another emulated AWS")
        time.sleep(0.05)
    holder = {"pid": os.getpid(), "port": world.port, "region": world.region, "factor": world.clock.factor}
    lock.truncate(0)
    lock.write(json.dumps(holder))
    lock.flush()
    return lock


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        sys.exit(f"port {port} of 127.0.0.1 cannot be had: {error.strerror}")
    return listener


if __name__ == "__main__":
    main()
