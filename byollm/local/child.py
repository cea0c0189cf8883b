"""A child process of the platform: started again when it ends, ended with the platform."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_STARTS = 5  # in a row, without having become ready
_PATIENCE = 180.0  # seconds to become ready in; who is killed and starts anew takes longer still
_GRACE = 20.0  # seconds to end in, state saved, before it is killed


class Child:
    """One process that is kept running.

    Args:
        name: for the log.
        command: what starts it.
        environment: its whole environment.
        output: file that takes what it prints.
        ready: asks whether it can do its work yet.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        ready: Callable[[], Awaitable[bool]],
    ) -> None:
        self.name = name
        self.failed: str | None = None
        self._command, self._environment, self._output, self._ready = command, environment, output, ready
        self._up = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and running else None

    async def start(self) -> None:
        """Start it, and return when it is ready or has been given up, with `failed` saying why."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")
        await self._up.wait()

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL for one that does not follow."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _GRACE)
            except TimeoutError:
                log.error("%s did not end within %.0f s and was killed", self.name, _GRACE)
                self._process.kill()
                await self._process.wait()

    async def _keep(self) -> None:
        attempts = 0
        while attempts < _STARTS:
            attempts += 1
            with self._output.open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**self._environment, "BYOLLM_PARENT": str(os.getpid())},
                    start_new_session=True,  # Ctrl-C is for the front process, which ends this one in order
                )
            if await self._becomes_ready(self._process):
                attempts = 0
                self._up.set()
            status = await self._process.wait()
            log.error("%s ended with status %s; what it said is in %s", self.name, status, self._output)
            await asyncio.sleep(0.2 * attempts)
        self.failed = f"{self.name} does not start; what it says is in {self._output}"
        log.error("%s", self.failed)
        self._up.set()

    async def _becomes_ready(self, process: asyncio.subprocess.Process) -> bool:
        """Wait until it is ready; False when it ends before, or is killed for taking too long."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while process.returncode is None:
            if await self._ready():
                return True
            if asyncio.get_running_loop().time() > deadline:
                process.kill()
                return False
            await asyncio.sleep(0.05)
        return False
