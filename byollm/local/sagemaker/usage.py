"""How much CPU and memory endpoints use, as CloudWatch is told it.

https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html#cloudwatch-metrics-jobs
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator

import psutil

from byollm.local.metrics import Metrics
from byollm.local.sagemaker.host import Host

NAMESPACE = "/aws/sagemaker/Endpoints"

Used = tuple[float, float]
"""Percent of one CPU, and of this machine's memory."""


class Usage:
    """Measures the containers of endpoints; CPU as AWS does, 100 for each one that is busy.

    Args:
        metrics: what they are sent through.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._before: dict[int, float] = {}
        self._measured = time.monotonic()

    async def publish(self, hosts: Iterable[tuple[str, Host]]) -> None:
        """Measure every instance, and tell what it has used since the last time."""
        containers = list(_containers(hosts))
        measured = await asyncio.to_thread(self._measure, [pid for _, pid in containers])
        for (dimensions, _), (cpu, memory) in zip(containers, measured, strict=True):
            self._metrics.put(NAMESPACE, "CPUUtilization", cpu, dimensions, "Percent")
            self._metrics.put(NAMESPACE, "MemoryUtilization", memory, dimensions, "Percent")

    def _measure(self, pids: list[int]) -> list[Used]:
        now, seen = time.monotonic(), dict[int, float]()
        seconds, self._measured = now - self._measured, now
        total = psutil.virtual_memory().total
        measured = []
        for pid in pids:
            busy = memory = 0.0
            for process in _family(pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    seen[process.pid] = times.user + times.system
                    busy += seen[process.pid] - self._before.get(process.pid, 0.0)
                    memory += process.memory_info().rss
            measured.append((100 * busy / seconds, 100 * memory / total))
        self._before = seen
        return measured


def _containers(hosts: Iterable[tuple[str, Host]]) -> Iterator[tuple[dict[str, str], int]]:
    for name, host in hosts:
        instances = [(variant, one) for variant, fleet in host.fleets for one in fleet.ready]
        instances += [(copies.variant, one) for copies in host.components.values() for one in copies.ready]
        for variant, instance in instances:
            if instance.container.pid is not None:
                yield {"EndpointName": name, "VariantName": variant}, instance.container.pid


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []
