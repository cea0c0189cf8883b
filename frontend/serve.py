"""Binds the port, serves the page, and ends cleanly when told to."""

import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable

import typer
import uvicorn

from byollm.settings import PageSettings
from frontend.errors import StartError

NEIGHBOURS = 20  # ports tried after the usual one
GRACE_SECONDS = 2  # an open page holds a connection for as long as it is open


def run(settings: PageSettings, *, any_port: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: the page's settings.
        any_port: whether a neighbouring port will do if the one in the settings is taken.

    Raises:
        StartError: the address or port cannot be had.
    """
    listener = listen(settings.host, settings.port, any_port=any_port)
    from frontend.web import application  # Gradio takes seconds to import: not before the port is ours

    port = listener.getsockname()[1]
    app, end_answers = application(settings)
    server = _Server(
        uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS, ws="none"),
        ready=f"byollm page: {_address(settings.host, port)} (model server: {settings.api})",
        end_answers=end_answers,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn handles both while it serves, and raises them again after a clean end, which is no failure
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])


def listen(host: str, port: int, *, any_port: bool) -> socket.socket:
    """Bind the port, or with `any_port` the next that is free.

    Raises:
        StartError: the address or port cannot be had.
    """
    last = min(port + NEIGHBOURS, 65535) if any_port and port else port
    for candidate in range(port, last + 1):
        try:
            return _bind(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(
                    f"cannot listen on {host} port {candidate}: {error.strerror or error}"
                ) from None
    where = f"port {port} is" if last == port else f"the ports {port} to {last} are"
    raise StartError(f"{where} taken by other programs; choose one with --port (0 takes any that is free)")


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def _address(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)  # noqa: S104 (read, not bound)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


class _Server(uvicorn.Server):
    """Says where the page is once it can be opened, and does not let a running answer delay its end."""

    def __init__(self, config: uvicorn.Config, ready: str, end_answers: Callable[[], Awaitable[None]]):
        super().__init__(config)
        self._ready = ready
        self._end_answers = end_answers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            typer.echo(self._ready)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._end_answers()
        # what an open page still waits for is cut off after the grace, which is no error
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
