"""The training image under SageMaker's contract: `train`, the job under /opt/ml, no other place to write."""

import json
import subprocess
from pathlib import Path

import pytest

from byollm.data.prepare import prepare
from byollm.modeling import load_decoder
from byollm.settings.data import DataSettings
from tests.containers.support import HARDENED, find_engine
from tests.training.support import sentences

STEPS = 20
RECIPE = {
    "model.hidden_size": "16",
    "model.layers": "2",
    "model.heads": "2",
    "model.kv_heads": "1",
    "model.head_dim": "8",
    "model.intermediate_size": "32",
    "sequence_length": "32",
    "batch_size": "2",
    "validations": "1",
    "budget.unit": "steps",
    "budget.amount": str(STEPS),
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of pretraining, as SageMaker lays it out for whoever the container's user is."""
    (tmp_path / "text.txt").write_text("\n\n".join(sentences(20, seed) for seed in range(60)))
    root = tmp_path / "ml"
    for folder in ("input/config", "model", "checkpoints", "output/data"):
        (root / folder).mkdir(parents=True)
        (root / folder).chmod(0o777)
    (root / "output").chmod(0o777)
    settings = {
        "directory": tmp_path,
        "output": root / "input" / "data" / "train",
        "vocab_size": 300,
        "sources": [{"path": "text.txt", "documents": "blank-lines"}],
        "validation_fraction": 0.1,
        "max_compression": 100,
    }
    prepare(DataSettings.model_validate(settings))
    (root / "input/config/hyperparameters.json").write_text(json.dumps(RECIPE))
    (root / "input/config/resourceconfig.json").write_text(json.dumps({"hosts": ["algo-1"]}))
    for path in tmp_path.parent.parent, tmp_path.parent, tmp_path, *tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode | 0o055)
    return root


def train(image: str, root: Path) -> tuple[int, str]:
    """Run the job and return the exit status and what the container said."""
    done = subprocess.run(
        [
            find_engine(),
            "run",
            "--rm",
            *HARDENED,
            "--network",
            "none",
            "--volume",
            f"{root}:/opt/ml",
            image,
            "train",
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_job_trains_a_model_and_leaves_it_for_sagemaker(images: str, job: Path) -> None:
    status, said = train(f"{images}-training", job)
    assert status == 0, said
    assert json.loads((job / "output/data/summary.json").read_text())["steps"] == STEPS
    assert load_decoder(job / "model").config.hidden_size == 16
    assert (job / "model" / "config.json").stat().st_uid == 10001


def test_a_job_without_data_says_so_where_sagemaker_looks(images: str, job: Path) -> None:
    (job / "input/data/train").rename(job / "input/data/other")
    status, said = train(f"{images}-training", job)
    assert status == 1, said
    assert "no channel 'train'" in (job / "output/failure").read_text()
