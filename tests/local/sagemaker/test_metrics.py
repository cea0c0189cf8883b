"""Endpoints tell CloudWatch under AWS's names what alarms and scaling read."""

import threading
from pathlib import Path

import pytest

from byollm.local.metrics import Metrics
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


def test_without_cloudwatch_nobody_waits_and_nothing_fails(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(World(Path("unused"), 1, "ca-central-1"))
    for number in range(20_000):
        metrics.put("n", "m", number, {"a": "b"})
    eventually(lambda: "metrics are dropped" in caplog.text)
    assert caplog.text.count("metrics are dropped") == 1
    assert any(thread.name == "metrics" for thread in threading.enumerate())
