"""Stack operations that a kill interrupted: they go on, as on AWS, where nobody kills them."""

import asyncio
import copy
import logging

import httpx
from ministack.core.responses import set_request_account_id, set_request_region
from ministack.services import cloudformation
from ministack.services.cloudformation import stacks

from byollm.local.door import HEALTH
from byollm.local.world import World

log = logging.getLogger(__name__)

_EVERY = 0.2  # seconds


async def resume(world: World) -> None:
    """Go on with every stack that is being made, changed or removed, once the platform is ready.

    What is recorded as made is left as it is, what is missing is made. An operation that was being rolled
    back is tried forward again.
    """
    pending = [
        key for key, stack in cloudformation._stacks._data.items() if is_under_way(stack["StackStatus"])
    ]
    if not pending:
        return
    async with httpx.AsyncClient(trust_env=False) as client:
        while not await _is_ready(client, world):
            await asyncio.sleep(_EVERY)
    for account, region, name in pending:
        set_request_account_id(account)
        set_request_region(region)
        stack = cloudformation._stacks[name]
        log.info("stack %s was left %s and goes on", name, stack["StackStatus"])
        await _go_on(name, stack)


async def _go_on(name: str, stack: dict[str, object]) -> None:
    if stack["StackStatus"] == "DELETE_IN_PROGRESS":
        await stacks._delete_stack_async(name, stack["StackId"])
        return
    stack["StackStatus"] = "UPDATE_IN_PROGRESS"
    await stacks._deploy_stack_async(
        name,
        stack["StackId"],
        stack["_template"],
        stack.get("_resolved_params") or {},
        False,
        stack.get("Tags") or [],
        is_update=True,
        previous_stack=copy.deepcopy(stack),
    )


def is_under_way(status: str) -> bool:
    """Whether a stack of that status is being made, changed or removed."""
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


async def _is_ready(client: httpx.AsyncClient, world: World) -> bool:
    try:
        answer = await client.get(world.address + HEALTH)
    except httpx.TransportError:
        return False
    return answer.status_code == httpx.codes.OK
