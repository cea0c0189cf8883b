"""What endpoints tell CloudWatch: each call, and every few seconds how many are under way."""

import asyncio
from collections.abc import Callable, Iterable

from byollm.local.metrics import Metrics
from byollm.local.sagemaker.host import Host
from byollm.local.sagemaker.usage import Usage
from byollm.local.world import World

NAMESPACE = "AWS/SageMaker"
CONCURRENCY_EVERY_S = 10.0
LATE_PERIODS = 30
USAGE_EVERY_S = 60.0


class Telemetry:
    """Metrics of endpoints, under AWS's names.

    Args:
        world: by whose clock they are sent.
        hosts: gives the endpoints that run, by name.
    """

    def __init__(self, world: World, hosts: Callable[[], Iterable[tuple[str, Host]]]) -> None:
        self._world, self._hosts = world, hosts
        self._metrics = Metrics(world)
        self._usage = Usage(self._metrics)
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to tell how many requests are under way, and what they cost."""
        self._loops = [asyncio.create_task(self._tell_concurrency()), asyncio.create_task(self._tell_usage())]

    async def stop(self) -> None:
        """Tell nothing more."""
        for loop in self._loops:
            loop.cancel()

    def invoked(
        self, dimensions: list[dict[str, str]], status: int, model_s: float, overhead_s: float, instances: int
    ) -> None:
        """Count one call.

        Args:
            dimensions: of the variant, and of the component where there is one.
            status: what the container answered, 500 where it failed to, 0 where nobody waited for it.
            model_s: how long it took.
            overhead_s: what this service added.
            instances: how many there are, for InvocationsPerInstance.
        """
        for of in dimensions:
            self._put("Invocations", 1, of, "Count")
            self._put("Invocation4XXErrors", float(400 <= status < 500), of, "Count")
            self._put("Invocation5XXErrors", float(status >= 500), of, "Count")
            self._put("ModelLatency", model_s * 1e6, of, "Microseconds")
            self._put("OverheadLatency", overhead_s * 1e6, of, "Microseconds")
            per = "InvocationsPerCopy" if "InferenceComponentName" in of else "InvocationsPerInstance"
            self._put(per, 1 / max(1, instances), of)

    def no_capacity(self, component: str) -> None:
        """Count a call that found no copy; what a component at zero is woken by."""
        self._put("NoCapacityInvocationFailures", 1, {"InferenceComponentName": component}, "Count")

    async def _tell_concurrency(self) -> None:
        clock, period = self._world.clock, CONCURRENCY_EVERY_S
        told = clock.now() // period
        while True:
            await clock.sleep((told + 1) * period - clock.now())
            reached = clock.now() // period
            # Where it comes late, for those periods too that went by, or they would have no measurement.
            for number in range(round(max(told, reached - LATE_PERIODS)) + 1, round(reached) + 1):
                self._tell_concurrency_at(number * period)
            told = reached

    def _tell_concurrency_at(self, time: float) -> None:
        for name, host in self._hosts():
            for variant, fleet in host.fleets:
                for instance in fleet.ready:
                    of = variant_dimensions(name, variant)
                    self._put("ConcurrentRequestsPerModel", instance.outstanding, of, at=time)
            for component, copies in host.components.items():
                for instance in copies.ready:
                    of = {"InferenceComponentName": component}
                    self._put("ConcurrentRequestsPerCopy", instance.outstanding, of, at=time)

    async def _tell_usage(self) -> None:
        while True:
            await self._world.clock.sleep(USAGE_EVERY_S)
            await self._usage.publish(self._hosts())

    def _put(
        self,
        name: str,
        value: float,
        dimensions: dict[str, str],
        unit: str = "None",
        at: float | None = None,
    ) -> None:
        self._metrics.put(NAMESPACE, name, value, dimensions, unit, at)


def variant_dimensions(endpoint: str, variant: str) -> dict[str, str]:
    """Return the dimensions that metrics of a variant have."""
    return {"EndpointName": endpoint, "VariantName": variant}
