"""Training jobs of SageMaker, as its containers run them: real processes over a real layout."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from byollm.data.prepare import prepare
from byollm.modeling import load_decoder
from byollm.settings import Settings, SettingsError
from byollm.settings.data import DataSettings
from byollm.training.errors import TrainingError
from byollm.training.job import run_job
from tests.training.support import sentences

STEPS = 80
RECIPE = {
    "task": "pretrain",
    "model.hidden_size": "16",
    "model.layers": "2",
    "model.heads": "2",
    "model.kv_heads": "1",
    "model.head_dim": "8",
    "model.intermediate_size": "32",
    "sequence_length": "32",
    "batch_size": "2",
    "validations": "1",
    "checkpoint_minutes": "0",
    "compile": "false",
    "threads": "1",
    "device": "cpu",
    "budget.unit": "steps",
    "budget.amount": str(STEPS),
    "sagemaker_region": "ca-central-1",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `byollm data prepare` makes of a small text."""
    directory = tmp_path_factory.mktemp("job")
    (directory / "text.txt").write_text("\n\n".join(sentences(20, seed) for seed in range(60)))
    settings = {
        "directory": directory,
        "output": directory / "data",
        "vocab_size": 300,
        "sources": [{"path": "text.txt", "documents": "blank-lines"}],
        "validation_fraction": 0.1,
        "max_compression": 100,
    }
    prepare(DataSettings.model_validate(settings))
    return directory / "data"


def lay_out(root: Path, prepared: Path | None = None, given: dict[str, str] = RECIPE, hosts: int = 1) -> Path:
    """Write a job as SageMaker does."""
    config = root / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(given))
    names = [f"algo-{number + 1}" for number in range(hosts)]
    (config / "resourceconfig.json").write_text(json.dumps({"current_host": names[0], "hosts": names}))
    for folder in ("input/data", "model", "checkpoints", "output/data"):
        (root / folder).mkdir(parents=True)
    if prepared is not None:
        (root / "input" / "data" / "train").symlink_to(prepared)
    return root


def start(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "byollm", "train", "--root", str(root)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_job_whose_instance_is_taken_away_goes_on_and_leaves_its_model(
    prepared: Path, tmp_path: Path
) -> None:
    root = lay_out(tmp_path / "ml", prepared)
    taken = start(root)
    deadline = time.monotonic() + 120
    log = root / "checkpoints" / "run" / "log.jsonl"
    while not (log.is_file() and '"loss"' in log.read_text()):
        assert taken.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    taken.send_signal(signal.SIGTERM)
    said = taken.communicate(timeout=240)[1]
    assert taken.returncode == 128 + signal.SIGTERM, said
    assert not list((root / "model").iterdir())

    again = start(root)
    said = again.communicate(timeout=240)[1]
    assert again.returncode == 0, said
    steps = [json.loads(line) for line in (root / "output/data/log.jsonl").read_text().splitlines()]
    assert [each["step"] for each in steps if "loss" in each] == list(range(1, STEPS + 1))
    assert load_decoder(root / "model").config.hidden_size == 16
    assert json.loads((root / "output/data/summary.json").read_text())["steps"] == STEPS


def test_fine_tuning_asks_for_the_model_to_begin_with(prepared: Path, tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml", prepared, {"task": "finetune"})
    with pytest.raises(TrainingError, match=r"no channel 'model'.*`byollm pretrain`"):
        run_job(root, Settings())


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"task": "distil"}, TrainingError, "task is 'distil'; it is one of pretrain, finetune"),
        ({"bugdet": "3"}, SettingsError, "bugdet: unknown setting"),
        ({"model.layers": "none"}, SettingsError, "model.layers: .*integer"),
        ({"model": "large", "model.layers": "2"}, SettingsError, "model"),
    ],
)
def test_hyperparameters_are_refused_by_name(
    changed: dict[str, str], error: type[Exception], message: str, prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        run_job(lay_out(tmp_path / "ml", prepared, RECIPE | changed), Settings())


def test_a_job_is_for_one_instance(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="set InstanceCount to 1"):
        run_job(lay_out(tmp_path / "ml", prepared, hosts=2), Settings())


def test_why_a_job_failed_is_left_where_sagemaker_looks(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "ml")
    failed = start(root)
    said = failed.communicate(timeout=240)[1]
    assert failed.returncode == 1, said
    told = (root / "output" / "failure").read_text()
    assert "no channel 'train'" in told
    assert "no channel 'train'" in " ".join(said.split())
