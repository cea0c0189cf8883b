"""A server of its own in this process, on one port of this machine."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

SHUTDOWN_S = 2


class Serving:
    """An app that is served until it is stopped.

    Args:
        port: of this machine, for this machine only.
        certificate: files of a certificate and its key; with them it is HTTPS.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, app: ASGIApp, port: int, certificate: tuple[str, str] | None = None) -> None:
        self._socket = bind(port)
        self._server = _Server(
            uvicorn.Config(
                app,
                ssl_certfile=certificate[0] if certificate else None,
                ssl_keyfile=certificate[1] if certificate else None,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._serving = asyncio.create_task(self._server.serve([self._socket]))

    async def stop(self) -> None:
        """Take no more requests; those under way have two seconds."""
        self._server.should_exit = True
        await asyncio.gather(self._serving, return_exceptions=True)
        self._socket.close()


class _Server(uvicorn.Server):
    """A server beside others in one process, whose signals are not its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(port: int) -> socket.socket:
    """Return a socket that listens on a port of this machine, for this machine only.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener
