"""A running endpoint: the generations of its variants, and how one takes over from another."""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from byollm.local.protocol import Members
from byollm.local.sagemaker.alarms import AlarmError, Watch
from byollm.local.sagemaker.copies import Copies
from byollm.local.sagemaker.fleet import Fleet, FleetError, Yard
from byollm.local.sagemaker.generation import Generation
from byollm.local.sagemaker.plan import EndpointPlan, VariantPlan
from byollm.local.sagemaker.rollout import blue_green, in_batches
from byollm.settings.errors import ByollmError
from byollm.settings.instances import INSTANCE_TYPES

EXECUTION_S = 28_800


class UpdateError(ByollmError):
    """An update was taken back; the message is AWS's FailureReason."""


@dataclass(frozen=True)
class Route:
    """Where one request goes: the variant, its fleet, and who gets a copy."""

    variant: VariantPlan
    fleet: Fleet
    shadow: VariantPlan | None = None
    shadow_fleet: Fleet | None = None


class Host:
    """What answers the requests of one endpoint.

    Args:
        yard: what fleets are made with.
        name: of the endpoint.
    """

    def __init__(self, yard: Yard, name: str) -> None:
        self._yard, self._name = yard, name
        self._generations: list[Generation] = []
        self._traffic: list[tuple[Generation, float]] = []
        self.components: dict[str, Copies] = {}
        self.stage = ""
        """What an update is doing, in the words of VariantStatus."""

    @property
    def current(self) -> Generation | None:
        """The generation that answers, and goes on answering if an update fails."""
        return self._traffic[0][0] if self._traffic else None

    @property
    def hosts_components(self) -> bool:
        """Whether components answer, not variants of its own."""
        return self.current is not None and self.current.plan.hosts_components

    @property
    def fleets(self) -> list[tuple[str, Fleet]]:
        """Every fleet with the name of its variant."""
        return [pair for generation in self._generations for pair in generation.fleets.items()]

    async def begin(self, plan: EndpointPlan) -> None:
        """Bring up the first generation.

        Raises:
            FleetError: it does not come up.
        """
        self._traffic = [(await self._raise(plan), 1.0)]

    async def rescale(self, plan: EndpointPlan) -> None:
        """Give the variants other weights, then other numbers of instances.

        Raises:
            FleetError: some did not come up; the numbers are as they were.
        """
        assert self.current is not None
        before, self.current.plan = self.current.plan, plan
        try:
            await self.current.scale(plan)
        except FleetError:
            await self.current.scale(before)
            raise

    async def update(self, plan: EndpointPlan, deployment: Members, rolling_back: Callable[[], None]) -> None:
        """Let a new generation take over as the deployment says.

        Args:
            plan: of the new generation.
            deployment: a DeploymentConfig; an empty one is blue/green, all at once.
            rolling_back: called when it fails, before the old generation is given back its place.

        Raises:
            UpdateError: why the old generation is back in its place.
            FleetError: why it is not.
        """
        old = self.current
        assert old is not None
        policy = deployment.get("BlueGreenUpdatePolicy", {}) | deployment.get("RollingUpdatePolicy", {})
        limit = policy.get("MaximumExecutionTimeoutInSeconds", EXECUTION_S)
        try:
            async with asyncio.timeout(limit / self._yard.world.clock.factor):
                await self._replace(old, plan, deployment)
        except (FleetError, AlarmError, TimeoutError) as error:
            rolling_back()
            self._traffic = [(old, 1.0)]
            await old.scale(old.plan)
            for generation in self._generations[1:]:
                await self._end(generation)
            raise UpdateError(str(error) or f"The deployment took longer than {limit} seconds.") from None
        finally:
            self.stage = ""

    async def stop(self) -> None:
        """End every instance."""
        self._traffic = []
        await asyncio.gather(*(self._end(generation) for generation in list(self._generations)))

    def route(self, target: str | None) -> Route | None:
        """Choose the variant of one request by traffic and weight, or the one that was named."""
        if not self._traffic:
            return None
        generations, shares = zip(*self._traffic, strict=True)
        generation = random.choices(generations, shares)[0]  # noqa: S311
        variant = generation.plan.variant(target) if target else generation.choose()
        if variant is None or variant.shadow:
            return None
        shadow = generation.shadow_of(variant)
        return Route(
            variant,
            generation.fleets[variant.name],
            shadow,
            generation.fleets[shadow.name] if shadow else None,
        )

    def instances(self, variant: VariantPlan) -> int:
        """Count the instances of a variant that hosts components: as many as their copies' GPUs ask for."""
        if variant.managed is None:
            return variant.count
        known = INSTANCE_TYPES.get(variant.instance_type)
        gpus = known.gpus if known and known.gpus else 1
        wanted = sum(one.wanted * one.gpus for one in self.components.values() if one.variant == variant.name)
        least, most = variant.managed
        return min(most, max(least, math.ceil(wanted / gpus)))

    async def _replace(self, old: Generation, plan: EndpointPlan, deployment: Members) -> None:
        watch = Watch(self._yard.world, deployment)
        rolling = deployment.get("RollingUpdatePolicy")
        count = sum(variant.count for variant in plan.variants)
        self.stage = "Creating"
        if rolling is not None and old.fleets and not plan.hosts_components:
            new = Generation(self._yard, self._name, plan)
            self._generations.append(new)
            ((_, green),), ((_, blue),) = new.fleets.items(), old.fleets.items()

            def moved(done: int) -> None:
                self._traffic = [(old, count - done), (new, done)]

            await in_batches(blue, green, old.plan.variants[0].count, count, rolling, watch, moved)
        else:
            new = await self._raise(plan)
            self.stage = "ActivatingTraffic"

            def shift(share: float) -> None:
                self._traffic = [(old, 1 - share), (new, share)]
                self.stage = "Baking" if share == 1 else "ActivatingTraffic"

            await blue_green(old, deployment.get("BlueGreenUpdatePolicy", {}), count, watch, shift)
        self._traffic = [(new, 1.0)]
        self._generations.remove(old)

    async def _raise(self, plan: EndpointPlan) -> Generation:
        generation = Generation(self._yard, self._name, plan)
        self._generations.append(generation)
        try:
            await generation.scale(plan)
        except FleetError:
            await self._end(generation)
            raise
        return generation

    async def _end(self, generation: Generation) -> None:
        await generation.stop()
        self._generations.remove(generation)
