"""What can be scaled: how much of it there is, and how that is changed, through its service's public API."""

from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from byollm.local.protocol import AwsError
from byollm.local.scaling import metrics
from byollm.local.world import World


@dataclass(frozen=True)
class Amount:
    """How much there is.

    Args:
        desired: how much there is to be.
        ready: whether that can be changed now; false while an earlier change is under way.
    """

    desired: int
    ready: bool


class Scalable(Protocol):
    """One thing of which there can be more or less."""

    unit: str
    """What it is counted in, for the texts of activities."""
    least: int
    """The smallest minimum that AWS accepts for it."""

    async def read(self) -> Amount | None:
        """Return how much there is; None if the thing does not exist."""

    async def change(self, desired: int) -> None:
        """Ask for another amount. Raises ClientError if the service refuses."""


class Variant:
    """Instances of a production variant."""

    unit, least = "desired instance count", 1

    def __init__(self, world: World, endpoint: str, variant: str) -> None:
        self._world, self._endpoint, self._variant = world, endpoint, variant

    async def read(self) -> Amount | None:
        """Read it."""
        found = await _found(self._world, "sagemaker", "describe_endpoint", EndpointName=self._endpoint)
        variants = (found or {}).get("ProductionVariants", [])
        for variant in variants:
            if variant["VariantName"] == self._variant:
                return Amount(variant["DesiredInstanceCount"], found["EndpointStatus"] == "InService")
        return None

    async def change(self, desired: int) -> None:
        """Change it."""
        wanted = {"VariantName": self._variant, "DesiredInstanceCount": desired}
        await self._world.call(
            "sagemaker",
            "update_endpoint_weights_and_capacities",
            EndpointName=self._endpoint,
            DesiredWeightsAndCapacities=[wanted],
        )


class Component:
    """Copies of an inference component."""

    unit, least = "desired copy count", 0

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name

    async def read(self) -> Amount | None:
        """Read it."""
        found = await _found(
            self._world, "sagemaker", "describe_inference_component", InferenceComponentName=self._name
        )
        if found is None:
            return None
        return Amount(
            found["RuntimeConfig"]["DesiredCopyCount"], found["InferenceComponentStatus"] == "InService"
        )

    async def change(self, desired: int) -> None:
        """Change it."""
        await self._world.call(
            "sagemaker",
            "update_inference_component_runtime_config",
            InferenceComponentName=self._name,
            DesiredRuntimeConfig={"CopyCount": desired},
        )


class Service:
    """Tasks of an ECS service."""

    unit, least = "desired count", 0

    def __init__(self, world: World, cluster: str, service: str) -> None:
        self._world, self._cluster, self._service = world, cluster, service

    async def read(self) -> Amount | None:
        """Read it."""
        found = await _found(
            self._world, "ecs", "describe_services", cluster=self._cluster, services=[self._service]
        )
        services = [one for one in (found or {}).get("services", []) if one["status"] == "ACTIVE"]
        return Amount(services[0]["desiredCount"], True) if services else None

    async def change(self, desired: int) -> None:
        """Change it."""
        await self._world.call(
            "ecs", "update_service", cluster=self._cluster, service=self._service, desiredCount=desired
        )


def scalable(world: World, namespace: str, resource: str, dimension: str) -> Scalable:
    """Return what a target names.

    Raises:
        AwsError: nothing that is emulated has this dimension, or the id is not of its form.
    """
    match namespace, dimension, resource.split("/"):
        case "sagemaker", metrics.VARIANT, ["endpoint", endpoint, "variant", variant]:
            return Variant(world, endpoint, variant)
        case "sagemaker", metrics.COMPONENT, ["inference-component", name]:
            return Component(world, name)
        case "ecs", metrics.SERVICE, ["service", cluster, service]:
            return Service(world, cluster, service)
    raise AwsError(
        "ValidationException",
        f"Unsupported service namespace, resource type or scalable dimension: "
        f"{namespace}, {resource}, {dimension} (docs/local.md)",
    )


async def _found(world: World, service: str, operation: str, **members: Any) -> Any:
    try:
        return await world.call(service, operation, **members)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            return None  # such as ValidationException: Could not find endpoint
        raise
