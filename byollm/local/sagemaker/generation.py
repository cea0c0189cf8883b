"""A generation: the fleets of one plan of an endpoint. While one follows another, both are there."""

import asyncio
import random

from byollm.local.sagemaker.fleet import Fleet, Yard
from byollm.local.sagemaker.plan import EndpointPlan, VariantPlan


class Generation:
    """The variants of one plan, each with its fleet.

    Args:
        yard: what fleets are made with.
        endpoint: its name.
        plan: what runs; where components are hosted, no variant has a fleet of its own.
    """

    def __init__(self, yard: Yard, endpoint: str, plan: EndpointPlan) -> None:
        self.plan = plan
        self.fleets = {
            variant.name: Fleet(
                yard,
                variant.container,
                group=f"/aws/sagemaker/Endpoints/{endpoint}",
                variant=variant.name,
                words=f"production variant {variant.name}",
                strategy=variant.strategy,
            )
            for variant in plan.variants
            if variant.container is not None
        }

    async def scale(self, plan: EndpointPlan) -> None:
        """Return when every variant has as many instances as the plan says.

        Raises:
            FleetError: some did not come up.
        """
        counts = {variant.name: variant.count for variant in plan.variants}
        await asyncio.gather(*(fleet.scale(counts[name]) for name, fleet in self.fleets.items()))
        self.plan = plan

    async def stop(self) -> None:
        """End every instance."""
        await asyncio.gather(*(fleet.stop() for fleet in self.fleets.values()))

    def choose(self) -> VariantPlan | None:
        """Choose a variant by weight; None where all weights are 0."""
        answering = [variant for variant in self.plan.variants if not variant.shadow]
        weights = [variant.weight for variant in answering]
        return random.choices(answering, weights)[0] if any(weights) else None  # noqa: S311

    def shadow_of(self, chosen: VariantPlan) -> VariantPlan | None:
        """Return the shadow, if this request is one that it gets a copy of."""
        for variant in self.plan.variants:
            if variant.shadow and random.random() * (chosen.weight or 1) < variant.weight:  # noqa: S311
                return variant
        return None
