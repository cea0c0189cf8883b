"""Which browser session is being answered right now, so that it can be stopped."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Reply:
    """One running answer."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    discarded: bool = False
    """Whether the chat was cleared meanwhile, so that nothing of the answer should be shown any more."""


class Replies:
    """At most one running answer a session. Holds nothing of what is said."""

    def __init__(self) -> None:
        self._running: dict[str, Reply] = {}

    def busy(self, session: str) -> bool:
        """Whether the session is being answered."""
        return session in self._running

    @contextmanager
    def running(self, session: str) -> Iterator[Reply]:
        """Answer within this context, in a session that is not busy."""
        reply = self._running[session] = Reply()
        try:
            yield reply
        finally:
            reply.ended.set()
            del self._running[session]

    async def halt(self, session: str, *, discard: bool = False) -> None:
        """Stop the session's answer, if one is running, and wait until it has written its last."""
        if reply := self._running.get(session):
            reply.discarded = discard
            reply.stop.set()
            await reply.ended.wait()

    async def halt_all(self) -> None:
        """Stop the answers of all sessions."""
        await asyncio.gather(*(self.halt(session) for session in tuple(self._running)))
