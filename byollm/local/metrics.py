"""Metrics of the emulated services, on their way to CloudWatch."""

import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.world import World

log = logging.getLogger(__name__)

WAITING = 10_000
BATCH = 500  # PutMetricData takes 1,000
LINGER_S = 0.2  # so that what comes together goes together


class Metrics:
    """Sends metrics from a thread of its own: a caller never waits for CloudWatch, nor fails with it.

    Args:
        world: whose CloudWatch gets them, and whose clock says when they were taken.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue(WAITING)
        self._started = False
        self._reachable = True

    def put(
        self,
        namespace: str,
        name: str,
        value: float | Mapping[float, int],
        dimensions: Mapping[str, str],
        unit: str = "None",
        at: float | None = None,
    ) -> None:
        """Send one value; where too many wait already, it is dropped.

        Args:
            namespace: such as `AWS/SageMaker`.
            name: of the metric.
            value: or several, with how often each occurred; 150 at most.
            unit: in CloudWatch's words.
            at: when it was so, by the world's clock; by default now.
        """
        datum = {
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": of} for key, of in dimensions.items()],
            "Timestamp": datetime.fromtimestamp(self._world.clock.now() if at is None else at, UTC),
            **(
                {"Values": list(value), "Counts": list(map(float, value.values()))}
                if isinstance(value, Mapping)
                else {"Value": value}
            ),
            "Unit": unit,
            "StorageResolution": 1,
        }
        if not self._started:
            self._started = True
            threading.Thread(target=self._send, name="metrics", daemon=True).start()
        try:
            self._waiting.put_nowait((namespace, datum))
        except queue.Full:
            self._dropped("too many wait")

    def _send(self) -> None:
        while True:
            batches = defaultdict(list)
            namespace, datum = self._waiting.get()
            batches[namespace].append(datum)
            time.sleep(LINGER_S)
            for _ in range(BATCH - 1):
                try:
                    namespace, datum = self._waiting.get_nowait()
                except queue.Empty:
                    break
                batches[namespace].append(datum)
            for namespace, data in batches.items():
                try:
                    self._world.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)
                    self._reachable = True
                except (BotoCoreError, ClientError) as error:
                    self._dropped(str(error))

    def _dropped(self, why: str) -> None:
        reachable, self._reachable = self._reachable, False
        if reachable:  # once for each time that CloudWatch is gone
            log.warning("metrics are dropped, CloudWatch does not take them: %s", why)
