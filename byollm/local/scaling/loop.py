"""What Application Auto Scaling does by itself: read the alarms, ask the policies, act."""

import logging
from collections.abc import Callable
from functools import partial

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.protocol import Members
from byollm.local.scaling import alarms
from byollm.local.scaling.capacity import Amount, Scalable, scalable
from byollm.local.scaling.decisions import (
    Bounds,
    Change,
    Cooldowns,
    Wish,
    after_cooldown,
    decided,
    stepped,
    tracked,
)
from byollm.local.scaling.records import Records, last_change
from byollm.local.world import World

TICK_S = 10.0  # the period of high-resolution metrics
COOLDOWN_S = 300

log = logging.getLogger(__name__)


class Loop:
    """Looks at every target again and again, and changes what its policies want changed.

    Args:
        world: whose metrics are read, and whose services act.
        records: the targets and policies.
    """

    def __init__(self, world: World, records: Records) -> None:
        self._world, self._records = world, records

    async def run(self) -> None:
        """Go on until cancelled; a service that does not answer is asked again next time."""
        while True:
            for target in self._records.targets():
                try:
                    await self._look_at(target)
                except (BotoCoreError, ClientError) as error:
                    log.warning("scaling of %s waits: %s", target["ResourceId"], error)
                except Exception:  # such as an alarm of a kind that is not judged here: the others go on
                    log.exception("scaling of %s", target["ResourceId"])
            await self._world.clock.sleep(TICK_S)

    async def _look_at(self, target: Members) -> None:
        thing = scalable(
            self._world, target["ServiceNamespace"], target["ResourceId"], target["ScalableDimension"]
        )
        amount = await thing.read()
        if amount is None or not amount.ready:
            return
        self._end_activities(target)
        if await self._into_bounds(target, thing, amount):
            return
        wishes = [await self._ask(policy, amount.desired) for policy in self._records.policies(target)]
        bounds = Bounds(target["MinCapacity"], target["MaxCapacity"])
        decision = decided(amount.desired, [wish for wish, _ in wishes], bounds)
        if decision is None:
            return
        wish, wanted = decision
        if _suspended(target, grows=wanted > amount.desired):
            return
        alarm = next(alarm for one, alarm in wishes if one is wish)
        cause = f"monitor alarm {alarm} in state ALARM triggered policy {wish.policy}"
        if await self._act(target, thing, wanted, cause):
            change = Change(amount.desired, wanted, self._world.clock.now())
            self._records.put_change({**target, "PolicyName": wish.policy}, change)

    async def _into_bounds(self, target: Members, thing: Scalable, amount: Amount) -> bool:
        """Bring what is outside the target's bounds inside; tell whether that was needed."""
        for name, outside in (
            ("MinCapacity", amount.desired < target["MinCapacity"]),
            ("MaxCapacity", amount.desired > target["MaxCapacity"]),
        ):
            if outside:
                kind = "minimum" if name == "MinCapacity" else "maximum"
                await self._act(target, thing, target[name], f"{kind} capacity was set to {target[name]}")
                return True
        return False

    async def _ask(self, policy: Members, capacity: int) -> tuple[Wish, str]:
        """Ask one policy how much it wants, and name the alarm that made it want that."""
        if policy["PolicyType"] == "TargetTrackingScaling":
            return await self._ask_tracking(policy, capacity)
        return await self._ask_steps(policy, capacity)

    async def _ask_tracking(self, policy: Members, capacity: int) -> tuple[Wish, str]:
        configuration = policy["TargetTrackingScalingPolicyConfiguration"]
        cooldowns = Cooldowns(
            configuration.get("ScaleOutCooldown", COOLDOWN_S),
            configuration.get("ScaleInCooldown", COOLDOWN_S),
        )
        tracks = not configuration.get("DisableScaleIn", False)
        for alarm in policy["AlarmDefinitions"]:
            reading = await alarms.read(self._world, alarm)
            if reading.breaching:
                # The newest says how much is needed; the most of the last minutes says what can be spared.
                high = alarm["ComparisonOperator"] == "GreaterThanThreshold"
                metric = reading.values[-1] if high else max(reading.values)
                ask = partial(tracked, metric=metric, target=configuration["TargetValue"])
                wanted = self._wanted(ask, policy, capacity, cooldowns)
                return Wish(policy["PolicyName"], wanted, tracks), alarm["AlarmName"]
        return Wish(policy["PolicyName"], None, tracks), ""

    async def _ask_steps(self, policy: Members, capacity: int) -> tuple[Wish, str]:
        configuration = policy["StepScalingPolicyConfiguration"]
        cooldown = configuration.get("Cooldown", COOLDOWN_S)
        found = await self._world.call("cloudwatch", "describe_alarms", ActionPrefix=policy["PolicyARN"])
        for alarm in found["MetricAlarms"]:
            if not alarm.get("ActionsEnabled", True):
                continue
            reading = await alarms.read(self._world, alarm)
            if not reading.breaching or not reading.values:
                continue
            ask = partial(stepped, excess=reading.values[-1] - alarm["Threshold"], policy=configuration)
            wanted = self._wanted(ask, policy, capacity, Cooldowns(cooldown, cooldown))
            return Wish(policy["PolicyName"], wanted), alarm["AlarmName"]
        return Wish(policy["PolicyName"], None), ""

    def _wanted(
        self, ask: Callable[[int], int], policy: Members, capacity: int, cooldowns: Cooldowns
    ) -> int | None:
        return after_cooldown(ask, capacity, last_change(policy), cooldowns, self._world.clock.now())

    async def _act(self, target: Members, thing: Scalable, wanted: int, cause: str) -> bool:
        activity = self._records.begin(target, f"Setting {thing.unit} to {wanted}.", cause)
        try:
            await thing.change(wanted)
        except ClientError as error:
            failed = {"StatusCode": "Failed", "StatusMessage": f"Failed to set {thing.unit}: {error}"}
            self._records.put_activity({**activity, **failed, "EndTime": self._world.clock.now()})
            return False
        return True

    def _end_activities(self, target: Members) -> None:
        """Call what was begun complete, now that the thing is ready again; cooldowns begin here."""
        now = self._world.clock.now()
        for activity in list(self._records.under_way(target)):
            fulfilled = f"Change successfully fulfilled by {target['ServiceNamespace']}."
            message = f"Successfully set{activity['Description'].removeprefix('Setting')} {fulfilled}"
            done = {"StatusCode": "Successful", "StatusMessage": message, "EndTime": now}
            self._records.put_activity({**activity, **done})
            for policy in self._records.policies(target):
                last = last_change(policy)
                if last is not None and last.at >= activity["StartTime"]:
                    self._records.put_change(policy, Change(last.before, last.after, now))


def _suspended(target: Members, *, grows: bool) -> bool:
    state = target.get("SuspendedState", {})
    return bool(state.get("DynamicScalingOutSuspended" if grows else "DynamicScalingInSuspended", False))
