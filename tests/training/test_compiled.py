from functools import partial
from pathlib import Path

import pytest
import torch

from byollm.settings.training import Budget
from byollm.training import compiler
from byollm.training.pretrain import pretrain
from tests.training.support import Recorder, recipe


def test_a_compiled_run_learns_as_a_plain_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PyTorch traces of it is run as it is: to make kernels of that takes a minute of processor time."""
    assert compiler.compiler_fault() is None
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    losses = []
    for compiled in (True, False):
        recorder = Recorder()
        settings = recipe(
            compile=compiled,
            budget=Budget(amount=4, unit="steps"),
            validations=1,
            checkpoint_minutes=60,
            model=recipe().model.override(layers=1),
        )
        pretrain(settings, data, tmp_path / str(compiled), recorder)
        assert len(recorder.notes) == compiled  # that it compiles, and nothing that went wrong
        losses.append(recorder.losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_without_a_compiler_training_goes_on_and_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

    monkeypatch.setattr(compiler.torch, "compile", missing)
    recorder = Recorder()
    settings = recipe(compile=True, budget=Budget(amount=1, unit="steps"), validations=1)
    assert pretrain(settings, data, tmp_path, recorder).finished
    assert "without torch.compile" in recorder.notes[0]
    assert "No working C++ compiler found. Install a C++ compiler" in recorder.notes[0]
