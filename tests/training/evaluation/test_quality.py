"""What packing took away is measured on the same text, and written to the card."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from byollm.cli.main import app
from byollm.modeling import load_decoder
from byollm.training.evaluation.held_out import validate_held_out


def quantize(model: Path, out: Path, *options: object) -> dict[str, Any]:
    ran = CliRunner().invoke(app, ["quantize", str(model), str(out), "--group", "32", *map(str, options)])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    record: dict[str, Any] = json.loads((out / "quantization.json").read_text())
    return record | {"output": ran.output}


def test_both_models_are_compared_on_the_data_that_were_named(
    model: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOLLM__DATA__OUTPUT", str(tmp_path / "none"))
    monkeypatch.setenv("BYOLLM__PRETRAIN__SEQUENCE_LENGTH", "32")
    found = quantize(model, tmp_path / "out", "--evaluate", prepared)
    for when, directory in (("before", model), ("after", tmp_path / "out")):
        decoder = load_decoder(directory, torch.float32)
        expected = validate_held_out(decoder, model / "tokenizer.json", prepared, length=32, batch_size=8)
        assert found["quality"][f"bits_per_byte_{when}"] == pytest.approx(expected.bits_per_byte, rel=1e-6)
        assert found["quality"]["tokens"] == expected.tokens
    before, after = found["quality"]["bits_per_byte_before"], found["quality"]["bits_per_byte_after"]
    assert before != after
    assert f"({after / before - 1:+.2%})" in found["output"]
    assert f"({after / before - 1:+.2%})" in (tmp_path / "out" / "README.md").read_text()


def test_data_at_hand_are_taken_only_if_they_are_of_the_models_tokenizer(
    model: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOLLM__PRETRAIN__SEQUENCE_LENGTH", "32")
    monkeypatch.setenv("BYOLLM__DATA__OUTPUT", str(prepared))
    assert quantize(model, tmp_path / "asked")["quality"] is not None
    monkeypatch.setenv("BYOLLM__DATA__OUTPUT", str(tmp_path))
    assert quantize(model, tmp_path / "none")["quality"] is None
