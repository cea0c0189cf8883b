import json
import resource
from pathlib import Path

import pytest
import torch

from byollm.training import ResumeError
from byollm.training.checkpoints import Checkpoint, Checkpoints


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"weight": torch.full((1000,), float(step))}, {"note": f"after {step}"})


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "deep" / "checkpoints", pytest.fail)
    assert checkpoints.newest() is None
    assert checkpoints.save(checkpoint(3))
    found = checkpoints.newest()
    assert found is not None
    assert (found.step, found.state) == (3, {"note": "after 3"})
    assert torch.equal(found.tensors["weight"], torch.full((1000,), 3.0))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, pytest.fail)
    for step in (1, 2, 9, 10):
        checkpoints.save(checkpoint(step))
    assert names(tmp_path) == ["step-00000009", "step-00000010"]


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "DONE"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, file: str, harm: str) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path, warnings.append)
    checkpoints.save(checkpoint(1))
    checkpoints.save(checkpoint(2))
    path = tmp_path / "step-00000002" / file
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert len(warnings) == 1
    assert "step-00000002: damaged" in warnings[0]


def test_where_all_are_damaged_nothing_is_trained_anew_in_silence(tmp_path: Path) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path, warnings.append)
    checkpoints.save(checkpoint(1))
    (tmp_path / "step-00000001" / "DONE").unlink()
    with pytest.raises(ResumeError, match="no checkpoint is whole"):
        checkpoints.newest()


def test_a_damaged_beginning_is_begun_anew_where_nothing_else_is_there(tmp_path: Path) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path, warnings.append)
    checkpoints.save(checkpoint(0))
    (tmp_path / "step-00000000" / "state.json").unlink()
    assert checkpoints.newest() is None
    assert "state.json is missing" in warnings[0]
    assert "begins anew" in warnings[0]
    assert names(tmp_path) == []
    for step in (0, 5):
        checkpoints.save(checkpoint(step))
        (tmp_path / f"step-{step:08d}" / "DONE").unlink()
    with pytest.raises(ResumeError, match="no checkpoint is whole"):
        checkpoints.newest()


def test_what_a_kill_left_of_an_unfinished_one_is_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, pytest.fail)
    checkpoints.save(checkpoint(1))
    leftover = tmp_path / ".step-00000002.new"
    leftover.mkdir()
    (leftover / "tensors.safetensors").write_bytes(b"half")
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert names(tmp_path) == ["step-00000001"]


def test_a_disk_that_refuses_leaves_the_last_checkpoint_and_is_told(tmp_path: Path) -> None:
    warnings: list[str] = []
    checkpoints = Checkpoints(tmp_path, warnings.append)
    checkpoints.save(checkpoint(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as a full disk: writing fails half way
    try:
        assert not checkpoints.save(checkpoint(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(warnings) == 1
    assert "checkpoint of step 2 could not be written" in warnings[0]
    assert "training goes on" in warnings[0]
    assert names(tmp_path) == ["step-00000001"]
    found = checkpoints.newest()
    assert found is not None
    assert found.step == 1
    assert checkpoints.save(checkpoint(3))


def test_a_checkpoint_names_what_it_consists_of(tmp_path: Path) -> None:
    Checkpoints(tmp_path, pytest.fail).save(checkpoint(1))
    done = json.loads((tmp_path / "step-00000001" / "DONE").read_text())
    assert done.keys() == {"tensors.safetensors", "state.json"}
