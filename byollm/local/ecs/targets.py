"""A task's places in the target groups of its service, through the load balancers' API."""

import asyncio
import logging

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.ecs.state import Document
from byollm.local.world import World

log = logging.getLogger(__name__)

HOST = "127.0.0.1"


async def attach(world: World, places: list[Document]) -> None:
    """Register a task's targets, `{"targetGroupArn", "port"}`."""
    for place in places:
        await world.call("elbv2", "register_targets", **_members(place))


async def detach(world: World, places: list[Document]) -> None:
    """Take a task's targets out, and return when they have answered what they had."""
    for place in places:
        try:
            await world.call("elbv2", "deregister_targets", **_members(place))
            while await _draining(world, place):
                await asyncio.sleep(0.1)
        except (BotoCoreError, ClientError) as error:
            log.warning("a target of %s was not taken out: %s", place["targetGroupArn"], error)


async def _draining(world: World, place: Document) -> bool:
    answer = await world.call("elbv2", "describe_target_health", **_members(place))
    return any(one["TargetHealth"]["State"] == "draining" for one in answer["TargetHealthDescriptions"])


async def states(world: World, group: str) -> dict[int, Document]:
    """Return the health of a group's targets by their ports."""
    answer = await world.call("elbv2", "describe_target_health", TargetGroupArn=group)
    return {one["Target"]["Port"]: one["TargetHealth"] for one in answer["TargetHealthDescriptions"]}


def _members(place: Document) -> Document:
    return {"TargetGroupArn": place["targetGroupArn"], "Targets": [{"Id": HOST, "Port": place["port"]}]}
