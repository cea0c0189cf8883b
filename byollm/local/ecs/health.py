"""The health check that a container definition asks for, run beside the container's process."""

import asyncio
import contextlib
import os
import re
import signal

from byollm.local.clock import Clock
from byollm.local.containers import Container
from byollm.local.ecs.state import Document

DEFAULTS = {"interval": 30, "timeout": 5, "retries": 3, "startPeriod": 0}
FIRST_CHECK_S = 1.0


class Health:
    """What the checks of one container say.

    Args:
        definition: of the container, with a `healthCheck`.
        clock: of the intervals between checks; how long a check may take is in real seconds.
    """

    def __init__(self, definition: Document, container: Container, clock: Clock) -> None:
        self._asked = {**DEFAULTS, **definition["healthCheck"]}
        self._container, self._clock = container, clock
        self._command = _command(definition, container)
        self.status = "UNKNOWN"

    async def watch(self) -> None:
        """Check for as long as the container runs."""
        asked, failed, began = self._asked, 0.0, self._clock.now()
        while self._container.alive:
            # until a container has once been healthy its checks come faster, which gives it no less time
            pace = min(asked["interval"], FIRST_CHECK_S) if self.status == "UNKNOWN" else asked["interval"]
            await self._clock.sleep(pace)
            if await self._passes():
                self.status, failed = "HEALTHY", 0.0
            elif self.status == "HEALTHY" or self._clock.now() - began >= asked["startPeriod"]:
                failed += pace / asked["interval"]
            if failed >= asked["retries"]:
                self.status = "UNHEALTHY"

    async def _passes(self) -> bool:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), **self._container.environment},
            start_new_session=True,
        )
        try:
            return await asyncio.wait_for(process.wait(), self._asked["timeout"]) == 0
        except TimeoutError:
            return False
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def _command(definition: Document, container: Container) -> list[str]:
    """Return the command, which asks the port that the process has in place of the container's."""
    kind, *words = definition["healthCheck"]["command"]
    if kind not in {"CMD", "CMD-SHELL"}:
        kind, words = "CMD", [kind, *words]
    for mapping in definition["portMappings"]:
        own = rf"(localhost|127\.0\.0\.1|\[::1\]):{mapping['containerPort']}\b"
        words = [re.sub(own, f"127.0.0.1:{container.port}", word) for word in words]
    return ["sh", "-c", *words] if kind == "CMD-SHELL" else words
