"""The serving process: its socket, its signals, its end."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from byollm.engine.engine_process import LOG_FORMAT
from byollm.engine.watchdog import end_process_after
from byollm.server.app import create_app
from byollm.server.errors import ServerError
from byollm.server.model import load_model
from byollm.server.service import Service
from byollm.settings import REPOSITORY
from byollm.settings.engine import EngineSettings
from byollm.settings.server import ServerSettings
from byollm.web.http import HttpProtocol
from byollm.web.listen import KEEP_CONNECTION_S, listen, url

log = logging.getLogger(__name__)

WATCH_S = 1.0
SECOND_LOOK_S = 0.5
MODELS = REPOSITORY / "models"
# Long enough for a health check to see why, and for error events to go out.
LAST_WORDS_S = 3.0
# From the end of the drain to that of the process: SageMaker kills 30 s after SIGTERM, and we promise 25.
LEAVE_S = 5.0


def serve(server: ServerSettings, engine: EngineSettings, announce: Callable[[str], None]) -> None:
    """Serve a model until a signal comes; then finish what runs.

    Args:
        server: which model, where and how to listen.
        engine: how to run the model.
        announce: called with one line when the model is ready.

    Raises:
        ByollmError: the model cannot be loaded, the address cannot be had, or the engine died.
    """
    model = server.model or bundled_model()
    check_directory(model)
    if server.adapters is not None and not server.adapters.is_dir():
        raise ServerError(
            f"server.adapters: {server.adapters} is no directory; make it, or leave the setting out"
        )
    listener = listen(server.host, server.port)
    configure_logging()
    name = server.model_name or model.resolve().name
    service = Service(partial(load_model, model, engine, server, name), server, name)
    config = uvicorn.Config(
        create_app(service),
        loop="uvloop",
        http=HttpProtocol,
        ws="none",
        log_config=None,
        access_log=server.access_log,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_CONNECTION_S,
        timeout_graceful_shutdown=1,
    )
    address = url(listener)
    log.info("listening on %s, loading %s", address, name)
    announce_model = partial(announce, f"byollm: serving {name} at {address}")
    process = Process(config, service, announce_model, engine.stall_seconds + LAST_WORDS_S)
    process.run(sockets=[listener])
    failure = service.failure or process.failure
    if failure is not None:
        raise failure


def bundled_model() -> Path:
    """The model that the repository carries.

    Raises:
        ServerError: there is none, as where byollm was installed without the repository.
    """
    found = sorted(path.parent for path in MODELS.glob("*/config.json"))
    if not found:
        raise ServerError(f"there is no model in {MODELS}: name one with --model")
    return found[0]


def check_directory(model: Path) -> None:
    """Refuse at once what cannot be a model directory.

    Raises:
        ServerError: says what was expected.
    """
    if not model.is_dir():
        raise ServerError(f"no model directory {model}: give one in Hugging Face's layout with --model")
    if not (model / "config.json").is_file():
        raise ServerError(
            f"{model} is no model directory: it has no config.json. Expected Hugging Face's layout: "
            "config.json, *.safetensors and the tokenizer's files"
        )


def configure_logging() -> None:
    """Log to standard error: what an operator has to know, and requests if asked for."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class Process(uvicorn.Server):
    """Uvicorn's server, which after a signal goes on answering until running requests have finished.

    Args:
        config: uvicorn's.
        service: what the application serves.
        announce: called when the model is ready.
        patience: seconds without any progress of the event loop after which the process is ended.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, announce: Callable[[], None], patience: float
    ) -> None:
        super().__init__(config)
        self.failure: ServerError | None = None
        self._service = service
        self._announce = announce
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._told_to_stop = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the listeners, then watch over the engine."""
        await super().startup(sockets=sockets)
        self._loop = asyncio.get_running_loop()
        self._tasks.append(self._loop.create_task(self._watch()))
        if self._told_to_stop:
            self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, stop at once at the second.

        Uvicorn's own method is not called: it would have the process die of the signal, with a status that is
        not 0.
        """
        if self._told_to_stop:
            self.should_exit = self.force_exit = True
        self._told_to_stop = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_to_drain)

    def _begin_to_drain(self) -> None:
        assert self._loop is not None
        self._tasks.append(self._loop.create_task(self._drain()))

    async def _drain(self) -> None:
        log.info("stopping; a second signal stops at once")
        end_process_after(self._service.settings.drain_s + LEAVE_S)
        await self._service.drain()
        self.should_exit = True

    async def _watch(self) -> None:
        """Announce the model, then see that its engine lives; a dead one ends the process, to be replaced."""
        await self._service.settled()
        if self._service.failure is None and not self._told_to_stop:
            self._announce()
        while not await self._failed():
            if not self._told_to_stop:
                end_process_after(self._patience)
            await asyncio.sleep(WATCH_S)
        if self._service.failure is None:
            log.critical("the engine died or is wedged; the process ends, to be replaced. Where it stands:")
            await self._service.give_up_engine()
            self.failure = ServerError("the engine died or is wedged: its log above has the details")
            end_process_after(LAST_WORDS_S + LEAVE_S)
            self._service.interrupt()
            await asyncio.sleep(LAST_WORDS_S)
        self.should_exit = True

    async def _failed(self) -> bool:
        """Whether it is certain that the engine is lost.

        An engine whose machine or processes were suspended is late too, but shows in a moment that it lives.
        """
        if self._service.status != "failed":
            return False
        await asyncio.sleep(SECOND_LOOK_S)
        return self._service.status == "failed"
