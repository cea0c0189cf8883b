"""An emulated AWS that really runs endpoints, with models to serve."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byollm.aws import Clients, one
from byollm.lifecycle import Artefact, Artefacts, Deployment, ModelFolder, Progress, Reconciler
from byollm.local.containers import Containers
from byollm.local.sagemaker import SageMaker
from byollm.local.scaling import AutoScaling
from byollm.local.world import World
from tests.lifecycle.support import deployment

IMAGE = f"byollm-dev/inference@sha256:{0:064x}"
BUCKET = "byollm-lifecycle-models"
FAST = {"startup_s": 3600}  # of the emulated clock
READS = ("Describe", "List")

STEPS = """
import sys, time
from byollm.aws import Clients, one
from byollm.lifecycle import Artefact, Deployment, Reconciler, settle

address, declared, artefact = sys.argv[1:]
reconciler = Reconciler(Clients("ca-central-1", address), Deployment.model_validate_json(declared))
artefacts = {"main": Artefact.model_validate_json(artefact)}
settle(lambda: reconciler.step(artefacts), until=time.monotonic() + 120)
"""


class Unmoved(AutoScaling):
    """Targets and policies without what acts on them, which would ask for metrics a dozen times a second."""

    async def start(self) -> None: ...


def services(world: World) -> dict[str, Any]:
    return {
        "sagemaker": SageMaker(world, Containers(world)),
        "application-autoscaling": Unmoved(world),
    }


def write_images(directory: Path) -> None:
    container = Path(__file__).with_name("container.py")
    (directory / "images.json").write_text(json.dumps({IMAGE: [sys.executable, "-S", str(container)]}))


@dataclass
class Emulated:
    """The clients of one world, and a folder for models."""

    clients: Clients
    directory: Path
    address: str

    def artefact(self, says: str, seconds: float = 0) -> Artefact:
        """Upload a model that says so, and takes so long."""
        folder = self.directory / says
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"says": says, "seconds": seconds}))
        (folder / "model.safetensors").write_bytes(says.encode())
        return Artefact(image=f"registry.test/{IMAGE}", model=self.upload(folder))

    def upload(self, folder: Path) -> str:
        return ModelFolder.read(folder).upload(self.clients, BUCKET)

    def reconciler(self, declared: Deployment) -> Reconciler:
        return Reconciler(self.clients, declared)

    def declare(self, name: str, spec: dict[str, Any]) -> Deployment:
        return deployment(
            {**spec, **FAST}, environment=name, name=f"byollm-{name}", package_group="byollm-dev"
        )

    def converge(self, declared: Deployment, artefacts: Artefacts) -> None:
        self.until_done(lambda: self.reconciler(declared).step(artefacts))

    def killed(self, declared: Deployment, artefacts: Artefacts) -> None:
        """Begin to bring an endpoint up in a process of its own, and kill that once SageMaker has begun."""
        (artefact,) = artefacts.values()
        given = [self.address, declared.model_dump_json(), artefact.model_dump_json()]
        process = subprocess.Popen([sys.executable, "-c", STEPS, *given])
        describe = self.clients.client("sagemaker").describe_endpoint
        deadline = time.monotonic() + 120
        while one(describe, EndpointName=declared.name) is None:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()

    def take_down(self, declared: Deployment) -> None:
        self.until_done(self.reconciler(declared).remove)
        assert self.reconciler(declared).left() == []

    @staticmethod
    def until_done(step: Callable[[], Progress]) -> None:
        deadline = time.monotonic() + 120
        while not (progress := step()).done:
            assert time.monotonic() < deadline, progress
            time.sleep(0.1)

    def changing_calls(self, act: Callable[[], Any]) -> list[str]:
        """Return the calls of `act` that may change something, as botocore sends them."""
        seen: list[str] = []

        def note(model: Any, **_: Any) -> None:
            if not model.name.startswith(READS):
                seen.append(model.name)

        events = [
            self.clients.client(name).meta.events
            for name in ("sagemaker", "application-autoscaling", "cloudwatch")
        ]
        for event in events:
            event.register("before-call", note)
        act()
        for event in events:
            event.unregister("before-call", note)
        return seen
