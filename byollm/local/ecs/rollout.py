"""What a rolling deployment does next. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/deployment-type-ecs.html"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from byollm.local.ecs.state import Document

LONGEST_BACKOFF_S = 300.0


class Runs(Protocol):
    """What is asked of a task."""

    @property
    def ready(self) -> bool:
        """Whether it does its work."""


T = TypeVar("T", bound=Runs)


@dataclass(frozen=True)
class Step(Generic[T]):
    """What is to be done now.

    Args:
        start: how many tasks of the new deployment to start.
        stop: the tasks to stop.
    """

    start: int
    stop: list[T]


def next_step(desired: int, configuration: Document, new: Sequence[T], old: Sequence[T]) -> Step[T]:
    """Return how to come nearer to `desired` tasks of the new deployment and none of the old ones.

    Args:
        configuration: the service's `deploymentConfiguration`.
        new: the new deployment's tasks that are not stopping, the oldest first.
        old: those of all other deployments.
    """
    at_most = math.floor(desired * configuration["maximumPercent"] / 100)
    at_least = math.ceil(desired * configuration["minimumHealthyPercent"] / 100)
    start = max(0, min(desired - len(new), at_most - len(new) - len(old)))
    blocked = start == 0 and len(new) < desired
    ready = sum(task.ready for task in (*new, *old))
    # tasks that work are given up for others that do, and only to make room before those do
    spare = max(0, ready - (at_least if blocked else desired))
    stop = [task for task in old if not task.ready]
    stop += [task for task in old if task.ready][:spare]
    surplus = sorted(new, key=lambda task: task.ready)[: max(0, len(new) - desired)]
    return Step(start, [*stop, *surplus])


def tolerated(desired: int, breaker: Document) -> int:
    """Return how many failed tasks in a row the circuit breaker takes for a failed deployment."""
    threshold = breaker.get("thresholdConfiguration", {})
    value: int = threshold.get("value", 50)
    if threshold.get("type") == "COUNT":
        return value
    share = math.ceil(desired * value / 100)
    return share if threshold.get("type") == "UNBOUNDED_PERCENT" else max(3, min(200, share))


def backoff_s(failures: int) -> float:
    """Return how long after the last of so many failures in a row the next task is started."""
    return 0.0 if failures == 0 else min(LONGEST_BACKOFF_S, 2.0 ** (failures - 1))
