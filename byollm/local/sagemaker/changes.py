"""Changes under way, which go on after the call that asked for them was answered."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Changes:
    """Tasks that nobody waits for, but that are not lost, nor fail in silence."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, change: Coroutine[Any, Any, Any]) -> None:
        """Let a change go on by itself."""
        task = asyncio.create_task(change)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def cancel(self) -> None:
        """Return when all are cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a change ended in the middle", exc_info=error)
