"""The copies of one inference component."""

import random

from byollm.local.protocol import Members
from byollm.local.sagemaker.alarms import Watch
from byollm.local.sagemaker.fleet import Fleet, Yard
from byollm.local.sagemaker.instance import Instance
from byollm.local.sagemaker.plan import ContainerPlan
from byollm.local.sagemaker.rollout import in_batches
from byollm.local.store import Document


class Copies:
    """What answers for one inference component: one fleet, or two while one follows the other.

    Args:
        yard: what copies are made with.
        document: the component, with its plan.
    """

    def __init__(self, yard: Yard, document: Document) -> None:
        self._yard, self._document = yard, document
        self.variant: str = document["VariantName"]
        needs = document["Specification"].get("ComputeResourceRequirements", {})
        self.gpus: float = needs.get("NumberOfAcceleratorDevicesRequired", 1)
        self._count = 0
        self._fleets = [self._fleet(ContainerPlan.model_validate(document["Plan"]))]

    @property
    def ready(self) -> list[Instance]:
        """Those that answer."""
        return [instance for fleet in self._fleets for instance in fleet.ready]

    @property
    def wanted(self) -> int:
        """How many there are to be."""
        return self._count

    def pick(self) -> Instance | None:
        """Choose the copy with the fewest requests under way; None if none is ready."""
        ready = self.ready
        random.shuffle(ready)
        return min(ready, key=lambda instance: instance.outstanding, default=None)

    async def scale(self, count: int) -> None:
        """Return when there are so many copies.

        Raises:
            FleetError: new ones did not come up.
        """
        before, self._count = self._count, count
        try:
            await self._fleets[0].scale(count)
        except Exception:
            self._count = before
            raise

    async def replace(self, plan: ContainerPlan, count: int, deployment: Members, watch: Watch) -> None:
        """Let copies of another plan take over, batch by batch.

        Args:
            plan: of the new copies.
            count: how many.
            deployment: an InferenceComponentDeploymentConfig, which may be empty.
            watch: the alarms; while they are silent, it goes on.

        Raises:
            AlarmError, FleetError: the old copies are back in their place.
        """
        new = self._fleet(plan)
        self._fleets.append(new)
        policy = deployment.get("RollingUpdatePolicy", {})
        try:
            await in_batches(self._fleets[0], new, self._count, count, policy, watch, lambda done: None)
        except Exception:
            self._fleets.remove(new)
            raise
        self._fleets, self._count = [new], count

    async def stop(self) -> None:
        """End every copy."""
        for fleet in self._fleets:
            await fleet.stop()

    def _fleet(self, plan: ContainerPlan) -> Fleet:
        name = self._document["InferenceComponentName"]
        return Fleet(
            self._yard,
            plan,
            group=f"/aws/sagemaker/InferenceComponents/{name}",
            variant=self.variant,
            words=f"inference component {name}",
            strategy="LEAST_OUTSTANDING_REQUESTS",
        )
