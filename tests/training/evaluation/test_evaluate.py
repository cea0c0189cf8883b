"""`byollm evaluate` writes figures and samples."""

import json
import os
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from byollm.modeling import load_decoder
from byollm.settings import ByollmError, PretrainSettings
from byollm.training.evaluation.samples import CONTINUATIONS, QUESTIONS
from tests.training.evaluation.support import CONTEXT, pack, sentence


def test_the_command_writes_every_figure_and_samples(
    model: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from byollm.cli.main import app

    chance = random.Random(5)
    pairs = [
        {"sentence_good": sentence(chance), "sentence_bad": sentence(chance), "linguistics_term": "agreement"}
        for _ in range(6)
    ]
    pack(tmp_path / "packs", {"made_up": pairs})
    monkeypatch.setitem(os.environ, "BYOLLM__DATA__DIRECTORY", str(tmp_path / "packs"))
    out, samples = tmp_path / "figures" / "report.json", tmp_path / "samples.md"
    arguments = ["--tasks", "blimp", "--prepared", prepared, "--out", out, "--samples", samples]
    given = ["evaluate", "--model", str(model), *map(str, arguments)]
    first = CliRunner().invoke(app, given)
    assert first.exit_code == 0, first.output
    report = json.loads(out.read_text())
    [score] = report["tasks"]
    assert (report["model"], score["task"], score["samples"]) == ("tiny", "blimp", 6)
    assert report["parameters"] == load_decoder(model).config.num_parameters()
    assert report["held_out"]["bits_per_byte"] > 0
    assert set(report["versions"]) == {"byollm", "lm_eval", "torch"}
    for said in ("blimp_agreement", "50%", "bits per byte", f"{score['metrics']['acc']:.2%}"):
        assert said in first.output
    written = samples.read_text()
    for prompt in (*CONTINUATIONS, *QUESTIONS):
        assert f"**{prompt}**" in written
    assert written.count("- greedy: ") == written.count("- drawn: ") == len(CONTINUATIONS) + len(QUESTIONS)
    samples.unlink()
    again = CliRunner().invoke(app, ["evaluate", "--model", str(model), "--samples", str(samples)])
    assert again.exit_code == 0, again.output
    assert "blimp" not in again.output
    assert samples.read_text() == written  # seeded


def test_nothing_to_evaluate_is_said(model: Path) -> None:
    from byollm.cli.main import app

    result = CliRunner().invoke(app, ["evaluate", "--model", str(model), "--tasks", ""])
    assert isinstance(result.exception, ByollmError)
    assert "nothing to evaluate" in str(result.exception)
    assert PretrainSettings().sequence_length > CONTEXT  # the rows of a validation are shortened to fit
