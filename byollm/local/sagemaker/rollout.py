"""How one thing takes over from another: by a second fleet that requests are shifted to, or in batches."""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

from byollm.local.protocol import Members
from byollm.local.sagemaker.alarms import Watch
from byollm.local.sagemaker.fleet import Fleet

Shift = Callable[[float], None]
"""Sends the new side so much of the requests, from 0 to 1."""


class Side(Protocol):
    """What blue/green can stop: a generation, or a fleet."""

    async def stop(self) -> None:
        """End every instance."""


async def blue_green(old: Side, policy: Members, count: int, watch: Watch, shift: Shift) -> None:
    """Shift requests to the new side, which is up already, and end the old one.

    Args:
        old: what answers now.
        policy: a BlueGreenUpdatePolicy; an empty one shifts at once and waits for nothing.
        count: instances of the new side.
        watch: the alarms; while they are silent, it goes on.
        shift: called with each further share.

    Raises:
        AlarmError: an alarm went off; the old side is still up, and requests are to be shifted back.
    """
    routing = policy.get("TrafficRoutingConfiguration", {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0})
    await watch.wait(0)
    for share in shares(routing, count):
        shift(share)
        if share < 1:
            await watch.wait(routing["WaitIntervalInSeconds"])
    await watch.wait(policy.get("TerminationWaitInSeconds", 0))
    await old.stop()


def shares(routing: Members, count: int) -> Iterator[float]:
    """Yield the shares of requests that the new side gets, one after the other, the last being all."""
    kind = routing["Type"]
    if kind == "CANARY":
        yield _fraction(routing["CanarySize"], count)
    elif kind == "LINEAR":
        step = _fraction(routing["LinearStepSize"], count)
        yield from (number * step for number in range(1, math.ceil(1 / step)))
    yield 1.0


async def in_batches(
    old: Fleet,
    new: Fleet,
    before: int,
    count: int,
    policy: Members,
    watch: Watch,
    moved: Callable[[int], None],
) -> None:
    """Replace the instances of the old fleet by those of the new one, batch by batch.

    Args:
        old: what answers now, with `before` instances.
        new: what is to answer, with none yet and `count` in the end.
        policy: a RollingUpdatePolicy, of an endpoint or of a component; an empty one has one batch.
        watch: the alarms; while they are silent, it goes on.
        moved: called with the number of instances that the new fleet has.

    Raises:
        AlarmError, FleetError: an alarm went off, or instances did not come up; all is as it was before.
    """
    size, back = (
        _batch(policy.get("MaximumBatchSize"), count),
        _batch(policy.get("RollbackMaximumBatchSize"), count),
    )
    done = 0
    try:
        await watch.wait(0)
        while done < count:
            batch = min(size, count - done)
            await new.scale(done + batch)
            done += batch
            moved(done)
            await old.scale(before - before * done // count)
            await watch.wait(policy.get("WaitIntervalInSeconds", 0))
        await old.stop()
    except Exception:
        while done:
            done = max(0, done - back)
            await old.scale(before - before * done // count)
            moved(done)
            await new.scale(done)
        raise


def _fraction(size: Members, count: int) -> float:
    if size["Type"] == "CAPACITY_PERCENT":
        return min(1.0, float(size["Value"]) / 100)
    return min(1.0, float(size["Value"]) / max(count, 1))


def _batch(size: Members | None, count: int) -> int:
    return max(1, math.floor(_fraction(size, count) * count)) if size else max(1, count)
