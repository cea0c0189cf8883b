"""The CDK hears that a stack has come to its end when it does.

By itself it looks every 5 seconds, stack after stack, and has no option for it; most are done within one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from ministack.services import cloudformation
from ministack.services.cloudformation.handlers import _resolve_stack

from byollm.local.ministack.resume import is_under_way

_CDK = "aws-cdk/"  # what the CDK's command line calls itself
_LONGEST = 20.0  # seconds that an answer is held back
_EVERY = 0.05


def tell_the_cdk_in_time() -> None:
    """Hold its `DescribeStacks` of a stack under way until that has ended; other clients wait for nothing."""
    handle: Callable[..., Awaitable[Any]] = cloudformation.handle_request

    async def handle_in_time(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Any:
        if _CDK in headers.get("user-agent", "") and b"Action=DescribeStacks" in body:
            for name in parse_qs(body.decode()).get("StackName", []):
                await _end(name)
        return await handle(method, path, headers, body, query)

    cloudformation.handle_request = handle_in_time


async def _end(name: str) -> None:
    """Return when the stack of that name or id stands, is gone, or takes too long."""
    deadline = asyncio.get_running_loop().time() + _LONGEST
    while asyncio.get_running_loop().time() < deadline:
        stack = _resolve_stack(name)
        if stack is None or not is_under_way(stack["StackStatus"]):
            return
        await asyncio.sleep(_EVERY)
