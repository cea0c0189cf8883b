"""What training containers write, read for metrics."""

import re
from collections.abc import Iterable
from pathlib import Path

from byollm.local.clock import Clock
from byollm.local.log_lines import LogLines, Place
from byollm.local.metrics import Metrics
from byollm.local.protocol import Members

GROUP = "/aws/sagemaker/TrainingJobs"
LINE = 8192  # characters of a line that are looked at


class TrainingLog:
    """The logs of one attempt at a job. It blocks: call it in a thread.

    Args:
        clock: says when it was found.
        metrics: where it is sent.
        job: as it was asked for.
        files: the logs, each of them this attempt's alone.
    """

    def __init__(self, clock: Clock, metrics: Metrics, job: Members, files: Iterable[Path]) -> None:
        self._clock, self._metrics, self._job = clock, metrics, job
        self._logs = [LogLines(file, Place()) for file in files]
        self._definitions = [
            (definition["Name"], re.compile(definition["Regex"]))
            for definition in job["AlgorithmSpecification"].get("MetricDefinitions", ())
        ]
        self.final: dict[str, Members] = {}
        """The last value of each metric, as DescribeTrainingJob shows it."""

    def follow(self) -> None:
        """Measure what was written since the last call."""
        for log in self._logs if self._definitions else ():
            while lines := log.read():
                for line in lines:
                    self._measure(line.text[:LINE])

    def _measure(self, line: str) -> None:
        for name, pattern in self._definitions:
            found = pattern.search(line)
            if found is None:
                continue
            try:
                value = float(found.group(1) if pattern.groups else found.group())
            except (TypeError, ValueError):
                continue
            of = {"TrainingJobName": self._job["TrainingJobName"]}
            self._metrics.put(GROUP, name, value, of)
            self.final[name] = {"MetricName": name, "Value": value, "Timestamp": self._clock.now()}
