"""One instance: a container that answers /ping and /invocations."""

import asyncio
import contextlib

import httpx

from byollm.local.clock import Clock
from byollm.local.containers import Container

PING_S = 2.0  # real seconds: how fast a process answers has nothing to do with the world's clock
PING_EVERY_S = 5.0
POLL_S = 0.1  # real too, while it starts or ends
DRAIN_S = 5.0
MISSED_PINGS = 3


class Instance:
    """A container and the requests it has under way.

    Args:
        name: as AWS would name the instance.
        container: listening on its port.
        clock: by which it is asked for its health.
    """

    def __init__(self, name: str, container: Container, clock: Clock) -> None:
        self.name, self.container = name, container
        self.outstanding = 0
        self._clock = clock
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{container.port}",
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            trust_env=False,
        )

    async def healthy(self) -> bool:
        """Ask /ping once."""
        with contextlib.suppress(httpx.HTTPError):
            return (await self.http.get("/ping", timeout=PING_S)).status_code == httpx.codes.OK
        return False

    async def until_healthy(self) -> bool:
        """Return True at the first good health check, False when the container has ended before."""
        while self.container.alive:
            if await self.healthy():
                return True
            await asyncio.sleep(POLL_S)
        return False

    async def until_unhealthy(self) -> None:
        """Return when the container has ended, or missed several health checks in a row."""
        ended = asyncio.ensure_future(self.container.wait())
        missing = asyncio.ensure_future(self._until_pings_are_missed())
        try:
            await asyncio.wait({ended, missing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            missing.cancel()

    async def stop(self) -> None:
        """End it. It gets no more requests, and those on their way have a moment before its SIGTERM."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.outstanding and self.container.alive:
                    await asyncio.sleep(POLL_S)
        await self.container.stop()
        await self.http.aclose()

    async def _until_pings_are_missed(self) -> None:
        missed = 0
        while missed < MISSED_PINGS:
            await self._clock.sleep(PING_EVERY_S)
            missed = 0 if await self.healthy() else missed + 1
