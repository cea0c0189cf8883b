"""The service: which parts have which operations, and where requests go in."""

from typing import Protocol

from starlette.applications import Starlette
from starlette.routing import Route

from byollm.local.containers import Containers
from byollm.local.protocol import JsonService
from byollm.local.sagemaker.collection import Collection
from byollm.local.sagemaker.components import Components
from byollm.local.sagemaker.endpoint_configs import EndpointConfigs
from byollm.local.sagemaker.endpoints import Endpoints
from byollm.local.sagemaker.events import Events
from byollm.local.sagemaker.fleet import Yard
from byollm.local.sagemaker.model_files import ModelFiles
from byollm.local.sagemaker.models import Models
from byollm.local.sagemaker.registry import ModelPackages
from byollm.local.sagemaker.runtime import Runtime
from byollm.local.sagemaker.tags import Tags
from byollm.local.sagemaker.telemetry import Telemetry
from byollm.local.sagemaker.training import TrainingJobs
from byollm.local.world import World


class Running(Protocol):
    """A part whose resources run, as endpoints and jobs do."""

    async def start(self) -> None:
        """Resume what ran when the service was last ended, in whatever way."""

    async def stop(self) -> None:
        """End what runs, so that the next start finds it."""


class SageMaker(JsonService):
    """Amazon SageMaker of one world: the control plane and the runtime.

    Args:
        world: where its resources are kept, and whose S3 and CloudWatch it asks.
        containers: runs endpoints and jobs.
    """

    def __init__(self, world: World, containers: Containers) -> None:
        store = world.store("sagemaker")
        tags = Tags(store)

        def collection(kind: str, path: str, words: str) -> Collection:
            return Collection(world, store, tags, kind, path, words)

        models = collection("Model", "model", "model")
        configs = collection("EndpointConfig", "endpoint-config", "endpoint configuration")
        yard = Yard(world, containers, ModelFiles(world))
        endpoints = Endpoints(yard, collection("Endpoint", "endpoint", "endpoint"), configs, models)
        placed = collection("InferenceComponent", "inference-component", "inference component")
        components = Components(yard, placed, models, endpoints)
        telemetry = Telemetry(world, lambda: endpoints.hosts.items())
        events = Events(world)
        jobs = TrainingJobs(
            world, containers, collection("TrainingJob", "training-job", "training job"), events
        )
        self._running: tuple[Running, ...] = (endpoints, components, telemetry, jobs)
        super().__init__(
            "sagemaker",
            *(tags, Models(models, containers), EndpointConfigs(configs, models), endpoints, components),
            *(jobs, ModelPackages(world, store, tags, events)),
        )
        runtime = Runtime(world, endpoints, telemetry)
        plain = Route("/", self.answer, methods=["POST"])
        self.app = Starlette(routes=[plain, *runtime.routes, *jobs.routes])

    async def start(self) -> None:
        """Resume endpoints and jobs that ran before."""
        for part in self._running:
            await part.start()

    async def stop(self) -> None:
        """End every container."""
        for part in reversed(self._running):
            await part.stop()
