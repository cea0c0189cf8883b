"""How much CPU and memory services use, as CloudWatch is told it."""

import contextlib
import time
from collections import defaultdict
from statistics import fmean

import psutil

from byollm.local.ecs.state import State
from byollm.local.ecs.task import Task
from byollm.local.ecs.tasks import Tasks
from byollm.local.metrics import Metrics

EVERY_S = 60.0
VCPU = 1024
MIB = 2**20


class Usage:
    """Measures what the processes of tasks use, of what their task definitions give them."""

    def __init__(self, state: State, tasks: Tasks) -> None:
        self._state, self._tasks = state, tasks
        self._metrics = Metrics(state.world)
        self._before: dict[int, float] = {}

    async def measure(self) -> None:
        """Measure every minute of the world's clock."""
        began = time.monotonic()
        while True:
            await self._state.world.clock.sleep(EVERY_S)
            now = time.monotonic()
            self._publish(now - began)
            began = now

    def _publish(self, seconds: float) -> None:
        used: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        seen: dict[int, float] = {}
        for task in self._tasks.running():
            kind, _, service = task.document["group"].partition(":")
            if kind == "service":
                cluster = task.document["clusterArn"].rpartition("/")[2]
                used[cluster, service].append(self._of(task, seconds, seen))
        self._before = seen
        for (cluster, service), percents in used.items():
            dimensions = {"ClusterName": cluster, "ServiceName": service}
            for name, values in zip(
                ("CPUUtilization", "MemoryUtilization"), zip(*percents, strict=True), strict=True
            ):
                self._metrics.put("AWS/ECS", name, fmean(values), dimensions, "Percent")

    def _of(self, task: Task, seconds: float, seen: dict[int, float]) -> tuple[float, float]:
        """Return the percentages of CPU and memory that a task uses."""
        busy = memory = 0.0
        for process in _processes(task):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                seen[process.pid] = times.user + times.system
                memory += process.memory_info().rss
                # a process that was not there the last time has used all that it has used since
                busy += seen[process.pid] - self._before.get(process.pid, 0.0)
        cpus = int(task.document["cpu"]) / VCPU
        return 100 * busy / seconds / cpus, 100 * memory / (int(task.document["memory"]) * MIB)


def _processes(task: Task) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for container in task.running.values():
        if container.pid is not None and container.alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(container.pid)
                found += [process, *process.children(recursive=True)]
    return found
