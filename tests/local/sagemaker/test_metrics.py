"""Endpoints tell CloudWatch under AWS's names what alarms and scaling read."""

import asyncio
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from byollm.local.clock import Clock
from byollm.local.metrics import Metrics
from byollm.local.sagemaker.telemetry import CONCURRENCY_EVERY_S, Telemetry
from byollm.local.world import World
from tests.local.sagemaker.hosting import Hosting, Members, error_of, eventually


def published(hosting: Hosting, namespace: str, dimensions: dict[str, str]) -> set[str]:
    wanted = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    found: Members = hosting.world.client("cloudwatch").list_metrics(Namespace=namespace, Dimensions=wanted)
    return {metric["MetricName"] for metric in found["Metrics"]}


def test_calls_and_instances_are_measured(hosting: Hosting) -> None:
    endpoint = hosting.endpoint(hosting.variant())
    hosting.invoke(endpoint)
    error_of(lambda: hosting.invoke(endpoint, status=500))
    of = {"EndpointName": endpoint, "VariantName": "main"}
    calls = {
        *("Invocations", "Invocation4XXErrors", "Invocation5XXErrors", "ModelLatency", "OverheadLatency"),
        *("InvocationsPerInstance", "ConcurrentRequestsPerModel"),
    }
    eventually(lambda: calls <= published(hosting, "AWS/SageMaker", of))
    eventually(
        lambda: {"CPUUtilization", "MemoryUtilization"} <= published(hosting, "/aws/sagemaker/Endpoints", of)
    )
    hosting.delete(endpoint)


def test_no_period_goes_by_unmeasured_however_late_its_measurement_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    instance = SimpleNamespace(outstanding=0, container=SimpleNamespace(pid=None))
    host: Any = SimpleNamespace(fleets=[("main", SimpleNamespace(ready=[instance]))], components={})
    telemetry = Telemetry(World(tmp_path, 1, "ca-central-1", clock=Clock(100)), lambda: [("endpoint", host)])
    monkeypatch.setattr(telemetry._metrics, "put", lambda *given: told.append(given[-1]))

    async def scenario() -> None:
        await telemetry.start()
        while len(told) < 2:
            await asyncio.sleep(0.01)
        time.sleep(0.5)  # something else holds the process up for some periods
        while len(told) < 8:
            await asyncio.sleep(0.01)
        await telemetry.stop()

    asyncio.run(scenario())
    assert {later - earlier for earlier, later in pairwise(told)} == {CONCURRENCY_EVERY_S}


def test_without_cloudwatch_nobody_waits_and_nothing_fails(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(World(Path("unused"), 1, "ca-central-1"))
    for number in range(20_000):
        metrics.put("n", "m", number, {"a": "b"})
    eventually(lambda: "metrics are dropped" in caplog.text)
    assert caplog.text.count("metrics are dropped") == 1
    assert any(thread.name == "metrics" for thread in threading.enumerate())
