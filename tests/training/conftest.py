"""Prepared data, a finished run to compare with, and a peak that is measured by a single product."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from byollm.data.prepare import prepare
from byollm.settings.data import DataSettings
from byollm.training import hardware
from byollm.training.pretrain import pretrain
from tests.training.support import Recorder, conversation, recipe, result, sentences


@pytest.fixture(autouse=True, scope="session")
def _quick_peak() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(hardware, "PEAK_SECONDS", 0.0)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `byollm data prepare` makes of sixty documents."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "text.txt").write_text("\n\n".join(sentences(20, seed) for seed in range(60)))
    settings = DataSettings.model_validate(
        {
            "directory": directory,
            "output": directory / "out",
            "vocab_size": 300,
            "sources": [{"path": "text.txt", "documents": "blank-lines"}],
            "validation_fraction": 0.1,
            "max_compression": 100,
        }
    )
    prepare(settings)
    return directory / "out"


@pytest.fixture(scope="session")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared conversations."""
    directory = tmp_path_factory.mktemp("conversations")
    for split, numbers in {"train": range(100), "val": range(100, 120)}.items():
        lines = (json.dumps(conversation(number)) + "\n" for number in numbers)
        (directory / f"{split}.jsonl").write_text("".join(lines))
    return directory


@pytest.fixture(scope="session")
def unbroken_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    pretrain(recipe(), data, run, Recorder())
    return run


@pytest.fixture(scope="session")
def unbroken(unbroken_run: Path) -> dict[str, Any]:
    """Its log and weights."""
    return result(unbroken_run)
