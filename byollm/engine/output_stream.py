"""The increments of one call on their way to who reads them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Self

from byollm.engine.outputs import Output


class OutputStream(AsyncIterator[Output]):
    """The increments of one call, of all its n sequences, as they come.

    A reader that falls behind stalls nobody: increments of one sequence that it has not read are merged into
    one, so at most one per sequence is kept. Closing the stream, cancelling a task that waits for it, or
    dropping it, aborts the request.
    """

    def __init__(
        self, request_id: str, prompt_tokens: int, sequences: int, abort: Callable[[], None]
    ) -> None:
        self.request_id = request_id
        self._prompt_tokens = prompt_tokens
        self._counts = dict.fromkeys(
            range(sequences), 0
        )  # completion tokens of the sequences not yet finished
        self._abort = abort
        self._unread: dict[int, Output] = {}  # by index
        self._ready = asyncio.Event()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output:
        while not self._unread:
            if not self._counts:
                raise StopAsyncIteration
            self._ready.clear()
            try:
                await self._ready.wait()
            except asyncio.CancelledError:
                await self.aclose()
                raise
        return self._unread.pop(next(iter(self._unread)))

    async def aclose(self) -> None:
        """Abort the request if it still runs; nothing more comes."""
        self._unread.clear()
        if self._counts:
            self._counts.clear()
            self._abort()
        self._ready.set()

    def __del__(self) -> None:
        if self._counts:
            self._abort()

    def _push(self, output: Output) -> None:
        """Take an increment."""
        if output.index not in self._counts:
            return  # closed
        self._counts[output.index] = output.completion_tokens
        if output.finish_reason is not None:
            del self._counts[output.index]
        if (unread := self._unread.get(output.index)) is not None:
            unread.merge(output)
        else:
            self._unread[output.index] = output
        self._ready.set()

    def _fail(self, error: str) -> None:
        """End what is unfinished, when the engine cannot do it."""
        for index, count in list(self._counts.items()):
            self._push(
                Output(self.request_id, index, self._prompt_tokens, count, finish_reason="error", error=error)
            )
