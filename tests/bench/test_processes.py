import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.serve import processes

# A parent that does nothing, whose child holds 64 MB and computes.
PROGRAM = """
import subprocess, sys
work = "block = bytearray(64 << 20); block[::4096] = b'x' * (len(block) // 4096)\\nwhile True: pass"
subprocess.Popen([sys.executable, "-c", work]).wait()
"""


@pytest.fixture
def parent() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM])
    yield process.pid
    processes.kill(process.pid)
    process.wait()


def until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_children_count(parent: int) -> None:
    until(lambda: len(processes.tree(parent)) == 2)
    assert processes.tree(parent)[0] == parent
    before = processes.cpu_seconds(parent)
    until(lambda: processes.cpu_seconds(parent) > before + 0.1)
    until(lambda: processes.peak_bytes(parent) > 64 << 20)


def test_a_frozen_tree_does_nothing_until_it_is_thawed(parent: int) -> None:
    until(lambda: processes.peak_bytes(parent) > 64 << 20)
    processes.freeze(parent)
    until(lambda: [state(pid) for pid in processes.tree(parent)] == ["T", "T"])  # a signal takes its time
    before = processes.cpu_seconds(parent)
    processes.thaw(parent)
    until(lambda: processes.cpu_seconds(parent) > before)


def test_time_of_children_that_ended_is_kept() -> None:
    work = "import time\\nwhile time.process_time() < 0.5: pass"
    program = (
        f'import subprocess, sys; subprocess.run([sys.executable, "-c", """{work}"""]); print(1); input()'
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processes.tree(process.pid) == [process.pid]
        assert processes.cpu_seconds(process.pid) >= 0.4  # /proc tells each part in whole ticks
