"""Runs that end without warning go on, in one process; the kills of real processes are in test_kill."""

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from byollm.modeling import CheckpointError
from byollm.settings.training import Budget
from byollm.training import ResumeError, TrainingError
from byollm.training.pretrain import pretrain
from tests.training.support import Crash, Recorder, recipe, result


def crash(at: int, data: Path, run: Path, **values: Any) -> None:
    with pytest.raises(Crash):
        pretrain(recipe(**values), data, run, Recorder(crash_at=at))


@pytest.mark.parametrize("minutes", [0, 60])  # a checkpoint after each step; the first one only
def test_a_broken_run_ends_as_the_unbroken_one(
    minutes: int, data: Path, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    for at in (3, 5, 5):
        crash(at, data, tmp_path / "run", checkpoint_minutes=minutes)
    outcome = pretrain(recipe(checkpoint_minutes=minutes), data, tmp_path / "run", Recorder())
    assert outcome.finished
    assert result(tmp_path / "run") == unbroken


def test_a_damaged_newest_checkpoint_costs_a_step_and_no_bit(
    data: Path, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    crash(6, data, run)
    newest = max((run / "checkpoints").iterdir())
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    recorder = Recorder()
    pretrain(recipe(), data, run, recorder)
    assert any("damaged (tensors.safetensors is not what was written)" in note for note in recorder.notes)
    assert len(recorder.losses) == 12 - (int(newest.name[-8:]) - 1)
    assert result(run) == unbroken


def test_accumulated_batches_resume_exactly(data: Path, tmp_path: Path) -> None:
    values: dict[str, Any] = {"accumulation": 3, "batch_size": 2, "budget": Budget(amount=5, unit="steps")}
    pretrain(recipe(**values), data, tmp_path / "whole", Recorder())
    crash(3, data, tmp_path / "broken", **values)
    pretrain(recipe(**values), data, tmp_path / "broken", Recorder())
    assert result(tmp_path / "broken") == result(tmp_path / "whole")


def test_minutes_become_steps_once(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    budget = Budget(amount=0.002, unit="minutes")  # less than timing takes: one step is left
    with pytest.raises(Crash):
        pretrain(recipe(budget=budget), data, run, Recorder(crash_at=1))
    outcome = pretrain(recipe(budget=budget), data, run, Recorder())
    assert (outcome.steps, outcome.total_steps) == (1, 1)


def test_timing_steps_leaves_no_trace(data: Path, tmp_path: Path) -> None:
    pretrain(recipe(budget=Budget(amount=0.002, unit="minutes")), data, tmp_path / "timed", Recorder())
    pretrain(recipe(budget=Budget(amount=1, unit="steps")), data, tmp_path / "plain", Recorder())
    assert result(tmp_path / "timed") == result(tmp_path / "plain")


def test_other_settings_are_refused_by_name(data: Path, unbroken_run: Path) -> None:
    other = recipe(learning_rate=0.5, model=recipe().model.override(layers=3))
    with pytest.raises(ResumeError) as refusal:
        pretrain(other, data, unbroken_run, Recorder())
    assert "settings.learning_rate is 0.5, the run has 0.004" in str(refusal.value)
    assert "settings.model.layers is 3, the run has 2" in str(refusal.value)
    assert "settings.seed" not in str(refusal.value)


def test_other_data_is_refused_by_name(data: Path, tmp_path: Path, unbroken_run: Path) -> None:
    other = tmp_path / "data"
    other.mkdir()
    for path in data.iterdir():
        if path.name != "manifest.json":
            (other / path.name).symlink_to(path)
    (other / "manifest.json").write_text((data / "manifest.json").read_text() + " ")
    with pytest.raises(ResumeError, match="data is "):
        pretrain(recipe(), other, unbroken_run, Recorder())


def test_other_threads_are_told_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(2, data, tmp_path / "run")
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    recorder = Recorder()
    assert pretrain(recipe(), data, tmp_path / "run", recorder).finished
    assert any("threads was 1, now 64" in note for note in recorder.notes)


def test_a_finished_run_is_not_trained_further(
    data: Path, tmp_path: Path, unbroken: dict[str, Any], unbroken_run: Path
) -> None:
    recorder = Recorder()
    assert pretrain(recipe(), data, unbroken_run, recorder).finished
    assert recorder.losses == []
    assert result(unbroken_run) == unbroken


def test_a_log_that_ends_before_a_checkpoint_costs_the_steps_up_to_it_and_no_bit(
    data: Path, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    run = tmp_path / "run"
    crash(5, data, run)
    state = json.loads((run / "checkpoints" / "step-00000003" / "state.json").read_text())
    os.truncate(run / "log.jsonl", state["log_bytes"])  # as the copy in S3 may be, which is made file by file
    recorder = Recorder()
    assert pretrain(recipe(), data, run, recorder).finished
    assert any("after step 3" in note for note in recorder.notes)
    assert result(run) == unbroken


def test_the_log_must_be_the_one_of_the_checkpoint(data: Path, tmp_path: Path) -> None:
    crash(3, data, tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").unlink()
    with pytest.raises(ResumeError, match=r"log\.jsonl has 0 bytes"):
        pretrain(recipe(), data, tmp_path / "run", Recorder())


def test_a_loss_that_is_no_number_stops_with_step_and_remedy(data: Path, tmp_path: Path) -> None:
    wild = recipe(learning_rate=1e30, matrix_learning_rate=1e30, warmup_fraction=0)
    with pytest.raises(TrainingError, match=r"step \d+: the loss is .* lower learning rates"):
        pretrain(wild, data, tmp_path / "run", Recorder())
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept
    again = Recorder()
    with pytest.raises(TrainingError, match="lower learning rates"):
        pretrain(wild, data, tmp_path / "run", again)
    assert any("continuing" in note for note in again.notes)


def test_a_full_disk_is_told_and_costs_no_bit(data: Path, tmp_path: Path, unbroken: dict[str, Any]) -> None:
    run, recorder = tmp_path / "run", Recorder()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # room for the log, not for weights
    try:
        with pytest.raises(CheckpointError, match=r"could not be written .* free some space"):
            pretrain(recipe(), data, run, recorder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(recorder.losses) == 12
    assert sum("checkpoint of step" in note for note in recorder.notes) == 13
    assert list((run / "checkpoints").iterdir()) == []
    assert pretrain(recipe(), data, run, Recorder()).finished
    assert result(run) == unbroken
