"""The engine's process, as seen from the one that starts it."""

import faulthandler
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from byollm.engine.messages import Load, Refused, pack, receive
from byollm.settings.engine import EngineSettings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class EngineProcess:
    """A child process that loads a model and runs its engine.

    Whatever kills one of the two is noticed by the other, whose end of the socket closes with it.

    Args:
        directory: the model, in Hugging Face's layout.
        settings: how to run it.
    """

    def __init__(self, directory: Path, settings: EngineSettings) -> None:
        self.link, theirs = socket.socketpair()
        code = "from byollm.engine.engine_process import main; main()"
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs.fileno())
        self.link.sendall(pack(Load(directory, settings)))

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def dump(self) -> None:
        """Have it write where its threads stand to standard error, even if it does nothing else any more."""
        self._process.send_signal(signal.SIGUSR1)

    def end(self) -> None:
        """End it now if it still runs, and wait for it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Run in the child: standard input is the socket."""
    link = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    # Who stops the server stops that process, which may first finish what runs here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1)
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    file = link.makefile("rb")
    load: Load = receive(file)
    if load.settings.cores is not None:
        try:
            os.sched_setaffinity(0, load.settings.cores)
        except (OSError, AttributeError):
            link.sendall(pack(Refused(_no_such_cores(load.settings.cores))))
            return
    from byollm.engine.worker import load_and_serve  # brings torch, which sees only the cores just set

    load_and_serve(link, file, load)


def _no_such_cores(cores: frozenset[int]) -> str:
    if not hasattr(os, "sched_getaffinity"):
        return "engine.cores: this system does not let a process choose its cores; leave it out"
    allowed = sorted(os.sched_getaffinity(0))
    return f"engine.cores: {sorted(cores)} has none of the cores that this process may use, {allowed}"
