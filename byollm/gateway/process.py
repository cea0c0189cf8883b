"""The gateway's process: its socket, its signals, its end."""

import signal
import socket
from collections.abc import Callable
from functools import partial

import uvicorn

from byollm.gateway.app import create_app
from byollm.gateway.logs import configure_logging
from byollm.gateway.runtime import Runtime, Target
from byollm.settings import AwsSettings, GatewaySettings
from byollm.web.http import HttpProtocol
from byollm.web.listen import KEEP_CONNECTION_S, listen, url


def serve(
    target: Target, settings: GatewaySettings, aws: AwsSettings, announce: Callable[[str], None]
) -> None:
    """Pass calls to `target` until a signal comes; then finish what runs.

    Args:
        target: the endpoint.
        settings: where to listen, and the bounds.
        aws: where the endpoint is.
        announce: called with one line when requests are taken.

    Raises:
        ByollmError: the address cannot be had, or there are no credentials.
    """
    listener = listen(settings.host, settings.port)
    configure_logging()
    config = uvicorn.Config(
        create_app(Runtime(target, settings, aws), settings),
        http=HttpProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_CONNECTION_S,
        timeout_graceful_shutdown=int(settings.drain_s),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn handles both while it serves, and raises them again after a clean end, which is no failure
        signal.signal(number, lambda *_: None)
    server = Server(config, partial(announce, f"byollm gateway: {url(listener)} -> {target.endpoint}"))
    server.run(sockets=[listener])


class Server(uvicorn.Server):
    """Uvicorn's server, which tells when it takes requests.

    Args:
        config: uvicorn's.
        announce: called then.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the listeners and tell."""
        await super().startup(sockets)
        if self.started:
            self._announce()
