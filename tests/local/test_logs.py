"""What containers write is in CloudWatch Logs: all of it, once, in order, wherever AWS would have it."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from byollm.local.container_init import BoundedLog
from byollm.local.logs import Logs, LogStream
from byollm.local.world import World
from tests.local.ecs.conftest import make_cluster
from tests.local.front import Front
from tests.local.running import Platform, eventually
from tests.ports import free_port


class Written:
    """A log that is written to, and what CloudWatch has of it."""

    def __init__(self, world: World, logs: Logs | None = None) -> None:
        self.world, self.logs = world, logs or Logs(world)
        self.file = world.directory / "logs" / "a.log"
        self.file.parent.mkdir(exist_ok=True)
        self.stream = LogStream(f"/tests/{uuid.uuid4().hex}", "main/i-1")
        self._log = BoundedLog(self.file)
        self.logs.follow(self.file, self.stream)

    def write(self, *lines: str, ended: bool = False) -> None:
        self._log.write("".join(f"{line}\n" for line in lines).encode())
        self.logs.stir(self.file, ended=ended)

    def events(self) -> list[dict[str, Any]]:
        client = self.world.client("logs")
        try:
            found: list[dict[str, Any]] = client.get_log_events(
                logGroupName=self.stream.group, logStreamName=self.stream.name, startFromHead=True
            )["events"]
        except client.exceptions.ResourceNotFoundException:
            return []
        return found

    def messages(self) -> list[str]:
        return [event["message"] for event in self.events()]


@pytest.fixture
def world(front: Front, tmp_path: Path) -> Iterator[World]:
    with front(tmp_path, lambda world: {}) as world:
        yield world


def test_lines_arrive_in_order_with_the_times_they_were_written_at(world: World) -> None:
    written = Written(world)
    numbers = [f"line {number}" for number in range(5000)]
    for begin in range(0, 5000, 500):
        written.write(*numbers[begin : begin + 500])
    written.write("", "the end")
    eventually(lambda: written.messages() == [*numbers, " ", "the end"])
    times = [event["timestamp"] for event in written.events()]
    assert times == sorted(times)
    noted = [line.partition(" ")[0] for line in written.file.read_text().splitlines()]
    assert len(set(noted)) == len(set(times))


def test_what_nobody_took_is_sent_after_a_restart_and_nothing_twice(front: Front, tmp_path: Path) -> None:
    away = Written(World(tmp_path, free_port(), "ca-central-1"))
    away.write("one", "two")
    with front(tmp_path, lambda world: {}) as world:
        written = Written(world, Logs(world))
        written.stream = away.stream
        written.write("three", ended=True)
        eventually(lambda: not list(world.store("logs").list("Log")))
        assert written.messages() == ["one", "two", "three"]


def test_what_follows_in_the_same_file_is_sent_too(world: World) -> None:
    written = Written(world)
    written.write("the first")
    written.logs.follow(written.file, written.stream)  # the next container begins
    written.logs.stir(written.file, ended=True)  # before it is known that the first has ended
    eventually(lambda: written.messages() == ["the first"])
    written.write("the second", ended=True)
    eventually(lambda: not list(world.store("logs").list("Log")))
    assert written.messages() == ["the first", "the second"]


def test_a_group_that_is_deleted_is_made_again_for_who_goes_on_writing_only(world: World) -> None:
    written = Written(world)
    written.write("one")
    eventually(lambda: written.messages() == ["one"])
    world.client("logs").delete_log_group(logGroupName=written.stream.group)
    written.write("two")
    eventually(lambda: written.messages() == ["two"])
    world.client("logs").delete_log_group(logGroupName=written.stream.group)
    written.write("last words", ended=True)
    eventually(lambda: not list(world.store("logs").list("Log")))
    assert written.messages() == []


def test_a_group_that_was_declared_is_used_as_it_is(platform: Platform) -> None:
    cluster = make_cluster(platform, "logs")
    logs, group = platform.client("logs"), f"/aws/ecs/{uuid.uuid4().hex}"
    logs.create_log_group(logGroupName=group)
    logs.put_retention_policy(logGroupName=group, retentionInDays=7)
    options = {"awslogs-group": group, "awslogs-region": "ca-central-1", "awslogs-stream-prefix": "web"}
    definition = cluster.define(
        logConfiguration={"logDriver": "awslogs", "options": options}, environment={"CRASH": "1"}
    )
    stream = f"web/app/{cluster.run(definition).rpartition('/')[2]}"
    eventually(lambda: logs.filter_log_events(logGroupName=group)["events"])
    (described,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert described["retentionInDays"] == 7
    # What `aws logs tail`, which this version of the command line has not, asks for.
    line = [Path(sys.executable).with_name("aws"), "logs", "filter-log-events", "--output", "text"]
    line += [
        "--query",
        "events[].[logStreamName, message]",
        "--log-group-identifier",
        described["logGroupArn"],
    ]
    told = subprocess.run(line, capture_output=True, text=True, check=True, env=platform.environment).stdout
    assert told.splitlines() == [f"{stream}\tas asked"]


def test_a_definition_says_all_that_the_driver_needs(platform: Platform) -> None:
    cluster = make_cluster(platform, "logs")
    for driver, options, refused in (
        ("awslogs", {"awslogs-group": "g"}, "requires options: awslogs-region, awslogs-stream-prefix"),
        ("splunk", {}, "splunk is not emulated"),
    ):
        with pytest.raises(ClientError, match=refused):
            cluster.define(logConfiguration={"logDriver": driver, "options": options})
