"""Real processes, really killed: what is left resumes bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from byollm.training.pretrain import pretrain
from tests.training.support import Recorder, recipe, result

ROOT = Path(__file__).parents[2]


def start(
    run: Path, data: Path, call: str = "none", pattern: str = "", when: str = ""
) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("killed.py")
    command = [sys.executable, script, run, data, call, pattern, when]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("call", "pattern", "when"),
    [
        ("fsync", "*/.step-00000005.new/state.json", "before"),  # tensors written, nothing promised
        ("fsync", "*/.step-00000005.new/DONE", "after"),  # complete, not yet in its place
        ("rename", "*/.step-00000005.new", "before"),
        ("rename", "*/.step-00000005.new", "after"),  # in its place, an older one not yet removed
        ("fsync", "*/log.jsonl", "before"),  # before the very first checkpoint
    ],
)
def test_a_kill_inside_a_checkpoint_costs_no_bit(
    call: str, pattern: str, when: str, data: Path, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    process = start(tmp_path / "run", data, call, pattern, when)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors.decode()
    assert pretrain(recipe(), data, tmp_path / "run", Recorder()).finished
    assert result(tmp_path / "run") == unbroken
    left = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert left == ["step-00000011", "step-00000012"]


def test_a_kill_at_any_moment_costs_no_bit(data: Path, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    run = tmp_path / "run"
    process = start(run, data)
    log = run / "log.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= 4:
            process.kill()
    process.communicate(timeout=60)
    assert pretrain(recipe(), data, run, Recorder()).finished
    assert result(run) == unbroken
