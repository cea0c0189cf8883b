"""What training containers write: handed on to CloudWatch Logs, and read for metrics."""

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import IO

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.metrics import Metrics
from byollm.local.protocol import Members
from byollm.local.world import World

GROUP = "/aws/sagemaker/TrainingJobs"
LINE = 8192  # characters of a line that are read
LINES = 1000  # in one call of PutLogEvents, which takes 10,000 of 1 MB together

log = logging.getLogger(__name__)


class Tail:
    """The lines that are added to a file, also where it is replaced by a new one once it is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._rest = ""

    def lines(self, last: bool = False) -> list[str]:
        """Return the lines that were completed since the last call.

        Args:
            last: nothing more will come, so that a line that was begun is complete.
        """
        text = self._rest + self._read()
        if self._file is not None and self._replaced():
            text += self._file.read()  # what came before it was replaced
            self._close()
            text += self._read()
        *lines, self._rest = text.split("\n")
        if len(self._rest) > LINE or (last and self._rest):
            lines, self._rest = [*lines, self._rest], ""
        if last:
            self._close()
        return [line[:LINE] for line in lines]

    def _read(self) -> str:
        if self._file is None:
            try:
                self._file = self._path.open(errors="replace")
            except FileNotFoundError:
                return ""
        return self._file.read()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _replaced(self) -> bool:
        assert self._file is not None
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False


class TrainingLog:
    """The logs of one attempt at a job. It blocks: call it in a thread.

    Args:
        job: as it was asked for.
        streams: the names of the log streams, and the files.
    """

    def __init__(self, world: World, metrics: Metrics, job: Members, streams: dict[str, Path]) -> None:
        self._world, self._metrics, self._job = world, metrics, job
        self._tails = {stream: Tail(path) for stream, path in streams.items()}
        self._made: set[str] = set()
        self._definitions = [
            (definition["Name"], re.compile(definition["Regex"]))
            for definition in job["AlgorithmSpecification"].get("MetricDefinitions", ())
        ]
        self.final: dict[str, Members] = {}
        """The last value of each metric, as DescribeTrainingJob shows it."""

    def follow(self, last: bool = False) -> None:
        """Hand on what was written since the last call.

        Args:
            last: the containers have ended.
        """
        for stream, tail in self._tails.items():
            lines = tail.lines(last)
            for line in lines:
                self._measure(line)
            for begin in range(0, len(lines), LINES):
                self._keep(stream, lines[begin : begin + LINES])

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
            self.final[name] = {"MetricName": name, "Value": value, "Timestamp": self._world.clock.now()}

    def _keep(self, stream: str, lines: list[str]) -> None:
        client = self._world.client("logs")
        now = int(self._world.clock.now() * 1000)
        events = [{"timestamp": now, "message": line or " "} for line in lines]
        try:
            if stream not in self._made:
                for make, given in (
                    (client.create_log_group, {"logGroupName": GROUP}),
                    (client.create_log_stream, {"logGroupName": GROUP, "logStreamName": stream}),
                ):
                    with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                        make(**given)
                self._made.add(stream)
            client.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)
        except (BotoCoreError, ClientError) as error:
            log.warning("%d lines of %s did not reach CloudWatch Logs: %s", len(lines), stream, error)
