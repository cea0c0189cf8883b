"""How much there should be: what the policies of one target ask for, and which of them is followed.

Pure functions: time and measurements come in as numbers.
https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """What a policy did last: from how much to how much, and when that was complete."""

    before: int
    after: int
    at: float


@dataclass(frozen=True)
class Wish:
    """What one policy asks for.

    Args:
        policy: its name.
        capacity: how much it wants; None to leave it as it is.
        tracks: whether it is a target tracking policy that scales in: all of those must agree to take away.
    """

    policy: str
    capacity: int | None
    tracks: bool = False


@dataclass(frozen=True)
class Cooldowns:
    """Seconds after which a policy counts what it added as effective, and may take away more."""

    out: float
    into: float


@dataclass(frozen=True)
class Bounds:
    """The least and the most that there may be."""

    least: int
    most: int

    def hold(self, capacity: int) -> int:
        """Return what is nearest to `capacity` inside."""
        return min(max(capacity, self.least), self.most)


def decided(capacity: int, wishes: Sequence[Wish], bounds: Bounds) -> tuple[Wish, int] | None:
    """Choose among what the policies of a target want, and say how much there is to be; None: no change."""
    wish = _followed(capacity, wishes)
    wanted = bounds.hold(_wanted(wish)) if wish else capacity
    return (wish, wanted) if wish and wanted != capacity else None


def _followed(capacity: int, wishes: Sequence[Wish]) -> Wish | None:
    """Follow the largest wish. To take away, all that track a target must agree; a step needs no consent."""
    outs = [wish for wish in wishes if _wanted(wish) > capacity]
    if outs:
        return max(outs, key=_wanted)
    ins = [wish for wish in wishes if not wish.tracks and 0 <= _wanted(wish) < capacity]
    tracking = [wish for wish in wishes if wish.tracks]
    if tracking and all(0 <= _wanted(wish) < capacity for wish in tracking):
        ins.append(max(tracking, key=_wanted))
    return max(ins, key=_wanted, default=None)


def tracked(capacity: int, metric: float, target: float) -> int:
    """How much it takes to bring a metric that is shared out evenly to its target."""
    return math.ceil(round(capacity * metric / target, 6))


def stepped(capacity: int, excess: float, policy: dict[str, Any]) -> int:
    """How much a step policy asks for when the metric is that far above its threshold (negative: below).

    https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
    """
    step = next((step for step in policy.get("StepAdjustments", []) if _holds(step, excess)), None)
    if step is None:
        return capacity
    adjustment = int(step["ScalingAdjustment"])
    if policy["AdjustmentType"] == "ExactCapacity":
        return adjustment
    if policy["AdjustmentType"] == "PercentChangeInCapacity":
        least = int(policy.get("MinAdjustmentMagnitude", 1))
        amount = max(math.floor(abs(capacity * adjustment / 100)), least) if adjustment else 0
        adjustment = int(math.copysign(amount, adjustment))
    return max(capacity + adjustment, 0)


def after_cooldown(
    ask: Callable[[int], int], capacity: int, last: Change | None, cooldowns: Cooldowns, now: float
) -> int | None:
    """Ask a policy how much it wants while what it did last may not show in the metric yet; None: no change.

    After it added, it is asked as if that were not there, so that only a larger breach adds more. After it
    took away, it takes no more until the cooldown is over, and may add at once.
    """
    grew = last is not None and last.after > last.before
    if last and grew and now < last.at + cooldowns.out:
        wanted = ask(last.before)
        return wanted if wanted > capacity else None
    wanted = ask(capacity)
    if wanted < capacity and last and not grew and now < last.at + cooldowns.into:
        return None
    return wanted if wanted != capacity else None


def _wanted(wish: Wish) -> int:
    return -1 if wish.capacity is None else wish.capacity


def _holds(step: dict[str, Any], excess: float) -> bool:
    """Whether the step is for this excess; the bound that is nearer to the threshold counts in."""
    lower = step.get("MetricIntervalLowerBound", -math.inf)
    upper = step.get("MetricIntervalUpperBound", math.inf)
    return bool(lower <= excess < upper if excess >= 0 else lower < excess <= upper)
