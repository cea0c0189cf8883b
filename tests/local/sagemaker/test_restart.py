"""What ran when the front process was killed runs again when it is back, and what was under way ends well."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from byollm.local.clock import Clock
from byollm.local.world import World
from tests.local.sagemaker.hosting import Hosting, eventually, write_images
from tests.local.sagemaker.test_components import component, host, settled
from tests.local.sagemaker.test_endpoints import running
from tests.local.sagemaker.test_updates import PERCENT_50, blue_green, named, says, traffic
from tests.ports import free_port

FRONT = """
import asyncio, sys
from pathlib import Path
import uvicorn
from byollm.local.clock import Clock
from byollm.local.containers import Containers
from byollm.local.sagemaker import SageMaker
from byollm.local.world import World

async def main():
    world = World(Path(sys.argv[1]), int(sys.argv[2]), "ca-central-1", clock=Clock(60))
    service = SageMaker(world, Containers(world))
    server = uvicorn.Server(uvicorn.Config(service.app, port=world.port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    await service.start()
    await serving
    await service.stop()

asyncio.run(main())
"""


class FrontProcess:
    """SageMaker in a process of its own, with nothing behind it."""

    def __init__(self, directory: Path) -> None:
        write_images(directory)
        self.world = World(directory, free_port(), "ca-central-1", clock=Clock(60))
        self.hosting = Hosting(self.world)
        self.start()

    def start(self) -> None:
        line = [sys.executable, "-c", FRONT, str(self.world.directory), str(self.world.port)]
        self.process = subprocess.Popen(line)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.hosting.sagemaker.list_models()
                return
            except BotoCoreError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def front_process(tmp_path: Path) -> Iterator[FrontProcess]:
    front = FrontProcess(tmp_path)
    yield front
    front.kill()


def test_a_killed_front_leaves_no_process_and_brings_everything_back(front_process: FrontProcess) -> None:
    hosting = front_process.hosting
    serving = hosting.endpoint(hosting.variant(count=2))
    for_components = host(hosting)
    placed = component(hosting, for_components)
    asleep = component(hosting, for_components, copies=0)
    updating = hosting.endpoint(named(hosting, "blue", count=2))
    hosting.update(
        updating,
        named(hosting, "green", count=2),
        DeploymentConfig=blue_green(traffic("CANARY", 120, CanarySize=PERCENT_50)),
    )
    eventually(lambda: "green" in says(hosting, updating, calls=4))
    creating = hosting.name("endpoint")
    config = hosting.config(hosting.variant())
    hosting.sagemaker.create_endpoint(EndpointName=creating, EndpointConfigName=config)
    pids = hosting.pids(serving) | hosting.pids(updating)
    pids |= hosting.pids(for_components, InferenceComponentName=placed)

    front_process.kill()
    eventually(lambda: not any(map(running, pids)))
    front_process.start()

    for endpoint in (serving, updating, creating, for_components):
        assert hosting.settled(endpoint)["EndpointStatus"] == "InService"
    assert len(hosting.pids(serving, calls=20)) == 2
    assert says(hosting, updating) == {"green"}
    assert hosting.invoke(creating)["name"] == "main"
    assert settled(hosting, placed)["RuntimeConfig"]["CurrentCopyCount"] == 1
    assert settled(hosting, asleep)["RuntimeConfig"]["CurrentCopyCount"] == 0
    assert hosting.invoke(for_components, InferenceComponentName=placed)["name"] == "blue"


def test_a_front_that_is_asked_to_end_leaves_nothing_running(front_process: FrontProcess) -> None:
    hosting = front_process.hosting
    pids = hosting.pids(hosting.endpoint(hosting.variant()), calls=1)
    front_process.process.terminate()
    front_process.process.wait(60)
    eventually(lambda: not any(map(running, pids)))
