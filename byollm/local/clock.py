"""Time as the emulated AWS sees it: the real delays, which tests shorten."""

import asyncio
import time


class Clock:
    """A clock that runs `factor` times as fast as the world's.

    Args:
        factor: how many of its seconds go by in one real second; tests use 60 and more.
        began: the time, in seconds since 1970, at which it was the world's time; by default now. Processes
            that are told the same agree on what time it is.
    """

    def __init__(self, factor: float = 1.0, began: float | None = None) -> None:
        if factor <= 0:
            raise ValueError(f"factor: {factor} is not above 0")
        self.factor = factor
        self.began = time.time() if began is None else began

    def now(self) -> float:
        """Seconds since 1970, on this clock."""
        return self.began + (time.time() - self.began) * self.factor

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` of this clock have gone by."""
        await asyncio.sleep(seconds / self.factor)
