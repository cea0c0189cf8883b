"""An emulated AWS in the background: started, found again, stopped."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import httpx

from byollm.local.door import HEALTH
from byollm.local.room import START_BYTES, shortage
from byollm.settings.errors import ByollmError

LOCK = "lock"  # held by the front process as long as it lives; says who it is
LOG = "logs/front.log"
_READY = 240.0  # seconds
_STOPPED = 60.0
_SAID = 10.0
_EVERY = 0.1


class LocalError(ByollmError):
    """The emulated AWS cannot be started, found or stopped."""


@dataclass(frozen=True)
class Running:
    """A front process that runs.

    Args:
        directory: where all it remembers is kept.
        pid: its process id.
        port: where it listens.
        region: the region it plays.
        factor: how fast its clock goes.
    """

    directory: Path
    pid: int
    port: int
    region: str
    factor: float

    @classmethod
    def find(cls, directory: Path) -> Self | None:
        """Return the process that holds `directory`; None where none does, whatever one left behind."""
        with contextlib.suppress(FileNotFoundError), (directory / LOCK).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return cls(directory, **_holder(lock))
        return None

    @property
    def address(self) -> str:
        """The endpoint for every client."""
        return f"http://localhost:{self.port}"

    def health(self) -> dict[str, Any]:
        """Return what it says of itself; `ready` is false where it says nothing."""
        try:
            answer: dict[str, Any] = httpx.get(self.address + HEALTH, timeout=5, trust_env=False).json()
        except (httpx.TransportError, ValueError):
            return {"ready": False}
        return answer

    def stop(self) -> None:
        """End it in order, with all that it runs.

        Raises:
            LocalError: it does not end.
        """
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOPPED
        while Running.find(self.directory) is not None:
            if time.monotonic() > deadline:
                raise LocalError(f"process {self.pid} does not end: kill -9 {self.pid}; no state is lost")
            time.sleep(_EVERY)


def launch(directory: Path, *, port: int, region: str, factor: float) -> Running:
    """Start an emulated AWS in the background and return when it is ready.

    Raises:
        LocalError: the port is taken, there is too little room, or it does not start; it says what to do.
    """
    require_free(port)
    if said := shortage(directory, START_BYTES):
        raise LocalError(said)
    command = [sys.executable, "-m", "byollm.local", "--directory", str(directory), "--port", str(port)]
    command += ["--region", region, "--clock-factor", str(factor)]
    log = directory / LOG
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # it outlives the terminal
            )
    except OSError as error:
        raise LocalError(f"{directory} cannot be written to: {error.strerror}") from None
    deadline = time.monotonic() + _READY
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LocalError(f"the emulated AWS does not start; the end of {log}:\n{tail(log)}")
        running = Running.find(directory)
        health = running.health() if running else {}
        if running and health.get("ready"):
            return running
        if "failed" in health:
            process.terminate()
            raise LocalError(f"the emulated AWS does not start: {health['failed']}")
        time.sleep(_EVERY)
    process.terminate()
    raise LocalError(f"the emulated AWS was not ready within {_READY:.0f} s; the end of {log}:\n{tail(log)}")


def require_free(port: int) -> None:
    """Make sure that nobody listens on `port` of this machine.

    Raises:
        LocalError: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LocalError(
                f"port {port} of this machine cannot be had ({error.strerror}): name another with --port, "
                "or end what listens there"
            ) from None


def forget(directory: Path) -> None:
    """Remove all that an emulated AWS left in `directory`, which has to be one's.

    Raises:
        LocalError: it is in use, or is no such directory.
    """
    if Running.find(directory) is not None:
        raise LocalError(f"{directory} is in use: `byollm down` first")
    if directory.exists() and not (directory / LOCK).exists():
        raise LocalError(f"{directory} is not the directory of an emulated AWS")
    shutil.rmtree(directory, ignore_errors=True)


def _holder(lock: IO[str]) -> dict[str, Any]:
    """Return what the holder of a lock says of itself, who may have taken it just now."""
    deadline = time.monotonic() + _SAID
    while True:
        lock.seek(0)
        try:
            holder: dict[str, Any] = json.loads(lock.read())
        except ValueError:
            if time.monotonic() > deadline:
                raise LocalError(f"{lock.name} is held by something else than an emulated AWS") from None
            time.sleep(_EVERY)
        else:
            return holder


def tail(file: Path, lines: int = 15) -> str:
    """Return the last lines of a file."""
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
