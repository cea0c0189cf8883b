"""Time as the emulated AWS sees it: the real delays, which tests shorten."""

import asyncio
import time


class Clock:
    """A clock that runs `factor` times as fast as the world's.

    Args:
        factor: how many of its seconds go by in one real second; tests use 60 and more.
    """

    def __init__(self, factor: float = 1.0) -> None:
        if factor <= 0:
            raise ValueError(f"factor: {factor} is not above 0")
        self.factor = factor
        self._began, self._began_real = time.time(), time.monotonic()

    def now(self) -> float:
        """Seconds since 1970, on this clock."""
        return self._began + (time.monotonic() - self._began_real) * self.factor

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of this clock have gone by."""
        await asyncio.sleep(seconds / self.factor)
