"""A run that is killed goes on, and ends with the bytes of one that was not."""

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.modeling.packing.support import contents, pack, write_model

TEXT = "The quick brown fox jumps over the lazy dog. " * 40
EVENTS = ("open", "os.rename", "os.remove", "os.chmod", "os.mkdir")


def pack_and_die(model: Path, out: Path, moment: int, given: dict[str, Any]) -> None:
    """Pack, and be killed at the `moment`-th time that something is done with a file in the workspace."""
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in EVENTS and "quantizing" in str(arguments[0]):
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    pack(model, out, **given)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, byte_level_directory: Path) -> Path:
    model = write_model(tmp_path_factory.mktemp("models") / "float", layers=2)
    for path in byte_level_directory.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    return model


@pytest.mark.parametrize("given", [{}, {"calibration": TEXT}], ids=["plain", "calibrated"])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    model: Path, tmp_path: Path, given: dict[str, Any]
) -> None:
    pack(model, tmp_path / "undisturbed", **given)
    expected = contents(tmp_path / "undisturbed")
    del expected["README.md"], expected["SHA256SUMS"]  # they have the directory's name in them
    fork = multiprocessing.get_context("fork")
    out, moment, went_on = tmp_path / "out", 0, 0
    step = 13 if given else 7  # prime, so that every kind of moment has its turn
    while True:
        moment += step
        shutil.rmtree(out, ignore_errors=True)
        process = fork.Process(target=pack_and_die, args=(model, out, moment, given))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        told: list[str] = []
        pack(model, out, tell=told.append, **given)
        went_on += any("going on" in line for line in told)
        assert expected.items() <= contents(out).items(), f"killed at moment {moment}"
        assert not list(tmp_path.glob(".*")), f"killed at moment {moment}"
    assert moment > 50
    assert went_on


def test_a_shard_that_changed_since_is_written_anew(model: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=pack_and_die, args=(model, tmp_path / "out", 60, {}))
    process.start()
    process.join()
    space = tmp_path / ".out.quantizing"
    shard = min(space.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    told: list[str] = []
    pack(model, tmp_path / "out", tell=told.append)
    pack(model, tmp_path / "undisturbed")
    assert contents(tmp_path / "out")[shard.name] == contents(tmp_path / "undisturbed")[shard.name]


def test_the_remains_of_another_job_are_thrown_away(model: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=pack_and_die, args=(model, tmp_path / "out", 60, {}))
    process.start()
    process.join()
    told: list[str] = []
    pack(model, tmp_path / "out", shard_bytes=20_000, tell=told.append)
    assert told == []
    pack(model, tmp_path / "undisturbed", shard_bytes=20_000)
    assert contents(tmp_path / "out").keys() == contents(tmp_path / "undisturbed").keys()
