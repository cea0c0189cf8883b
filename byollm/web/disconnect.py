"""Noticing that the client went away while its answer was being made."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


class ClientGoneError(Exception):
    """The client closed the connection before it had its answer."""


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, whose request body has been read; cancel it as soon as the client goes away.

    Raises:
        ClientGoneError: the client went away.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnection(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        task.result()
    finally:
        for pending in (task, gone):
            if not pending.done():
                pending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pending


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
