"""Real processes, really killed: what is left resumes bit for bit."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from byollm.training.pretrain import pretrain
from tests.training.killed import MOMENTS
from tests.training.support import Recorder, recipe, result

ROOT = Path(__file__).parents[2]


def start(runs: Path, data: Path, *names: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, Path(__file__).with_name("killed.py"), runs, data, *names]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def killed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is left of processes that were killed, each at another moment."""
    runs = tmp_path_factory.mktemp("killed")
    process = start(runs, data, *MOMENTS)
    _, errors = process.communicate(timeout=480)
    assert process.returncode == 0, errors.decode()
    return runs


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_inside_a_checkpoint_costs_no_bit(
    moment: str, killed: Path, data: Path, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    run = shutil.copytree(killed / moment, tmp_path / "run")
    assert not (run / "model").exists()
    assert pretrain(recipe(), data, run, Recorder()).finished
    assert result(run) == unbroken
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == ["step-00000011", "step-00000012"]


def test_a_kill_while_the_first_checkpoint_was_copied_costs_no_bit(
    killed: Path, data: Path, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    # What SageMaker had copied to S3, file by file, and gives to the instance that goes on.
    run = tmp_path / "run"
    first = Path("checkpoints/step-00000000/tensors.safetensors")
    (run / first).parent.mkdir(parents=True)
    shutil.copy(killed / "the very first just in its place" / first, run / first)
    assert pretrain(recipe(), data, run, Recorder()).finished
    assert result(run) == unbroken


def test_a_kill_at_any_moment_costs_no_bit(data: Path, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    process, run = start(tmp_path, data, "alive"), tmp_path / "alive"
    log = run / "log.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= 4:
            process.kill()
        time.sleep(0.01)
    process.communicate(timeout=240)
    assert pretrain(recipe(), data, run, Recorder()).finished
    assert result(run) == unbroken
