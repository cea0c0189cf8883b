"""What the reconciler declares scales a real endpoint: out under load, down to nothing, and up at a call."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from byollm.aws import Clients
from byollm.lifecycle import Deployment
from byollm.lifecycle.smoke import ask
from byollm.local.containers import Containers
from byollm.local.sagemaker import SageMaker
from byollm.local.scaling import AutoScaling
from byollm.local.world import ACCESS_KEY, SECRET_KEY, World
from tests.lifecycle.emulated import BUCKET, Emulated, write_images
from tests.local.front import Front
from tests.local.running import eventually

SPEC = {"hosting": "component", "scaling": {"minimum": 0, "maximum": 2, "concurrency": 2}}


def services(world: World) -> dict[str, Any]:
    return {
        "sagemaker": SageMaker(world, Containers(world)),
        "application-autoscaling": AutoScaling(world),
    }


@pytest.fixture
def emulated(
    front: Front, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulated]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    write_images(tmp_path)
    with front(tmp_path, services, factor=60) as world:
        clients = Clients(world.region, world.address)
        place = {"LocationConstraint": world.region}
        if BUCKET not in {one["Name"] for one in clients.client("s3").list_buckets()["Buckets"]}:
            clients.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        yield Emulated(clients, tmp_path_factory.mktemp("models"), world.address)


@contextmanager
def asked_by(count: int, emulated: Emulated, declared: Deployment) -> Iterator[None]:
    """Have so many clients ask again and again."""
    enough = threading.Event()

    def client() -> None:
        while not enough.is_set():
            ask(emulated.clients, declared, "main", until=time.monotonic() + 30, every_s=0.2)

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def test_a_component_follows_its_load_down_to_nothing_and_back(emulated: Emulated) -> None:
    declared = emulated.declare("scaled", SPEC)
    emulated.converge(declared, {"main": emulated.artefact("at-last", seconds=1.5)})

    def copies() -> int:
        described: dict[str, Any] = emulated.clients.client("sagemaker").describe_inference_component(
            InferenceComponentName=declared.component
        )
        return int(described["RuntimeConfig"]["CurrentCopyCount"])

    with asked_by(6, emulated, declared):
        eventually(lambda: copies() == 2, seconds=120)
    eventually(lambda: copies() == 0, seconds=120)
    answer = ask(emulated.clients, declared, "main", until=time.monotonic() + 60, every_s=0.2)
    assert answer.text == "at-last"
    activities = emulated.clients.client("application-autoscaling").describe_scaling_activities(
        ServiceNamespace="sagemaker"
    )["ScalingActivities"][::-1]
    counts = [one["Description"].split()[-1] for one in activities]
    grown = counts.index("2.")  # on a slow machine it may have fallen asleep before it was asked at all
    asleep = counts.index("0.", grown)
    assert counts[asleep + 1] == "1."
    assert "AlarmHigh" in activities[grown]["Cause"]
    assert "AlarmLow" in activities[asleep]["Cause"]
    assert "policy wake" in activities[asleep + 1]["Cause"]
    emulated.take_down(declared)
