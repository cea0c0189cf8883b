"""The commands as people start them: real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from byollm.cli.main import main
from tests.training.support import recipe, result

ROOT = Path(__file__).parents[2]


def environment(**values: Any) -> dict[str, str]:
    """The settings of a recipe as variables."""
    variables = {}
    for name, value in recipe(**values).model_dump(mode="json").items():
        parts = value if isinstance(value, dict) else {"": value}
        for part, content in parts.items():
            variable = "__".join(filter(None, ["BYOLLM", "PRETRAIN", name.upper(), part.upper()]))
            variables[variable] = str(content)
    return {**os.environ, **variables}


def byollm(*arguments: str | Path, **values: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "byollm", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(**values), cwd=ROOT, **pipes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_writes_a_checkpoint_and_says_how_to_go_on(
    number: signal.Signals, data: Path, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"checkpoint_minutes": 60, "budget": {"amount": 3000, "unit": "steps"}}
    run = tmp_path / "run"
    process = byollm("pretrain", "--data", data, "--out", run, **values)
    log, deadline = run / "log.jsonl", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b"\n") >= 3:
            process.send_signal(number)
            break
        time.sleep(0.05)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert f"stopped by {number.name} after step " in errors
    assert "Run the same command again to continue" in errors
    taken = log.read_bytes().count(b'"loss"')
    assert max((run / "checkpoints").iterdir()).name == f"step-{taken:08d}"
    assert (run / "curve.png").exists()
    assert not (run / "model").exists()


def test_flags_override_settings_and_the_model_is_the_same(
    data: Path, tmp_path: Path, unbroken: dict[str, Any]
) -> None:
    process = byollm(
        "pretrain", "--data", data, "--out", tmp_path / "run", "--tokens", "1536", "--seed", "0", seed=7
    )
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert f"model: {tmp_path / 'run' / 'model'}" in out
    assert "validation: loss" in errors
    assert result(tmp_path / "run") == unbroken


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "--minutes", "1", "--tokens", "5"], "one budget: give one of --minutes, --tokens"),
        (["pretrain", "--data", "nowhere", "--out", "{here}/run"], "byollm data prepare"),
        (["finetune", "--base", "x"], "add --full"),
        (["finetune", "--full", "--base", "nowhere"], "no model directory nowhere"),
    ],
)
def test_faults_are_told_without_a_traceback(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.format(here=tmp_path) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["byollm", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert message in " ".join(capsys.readouterr().err.split())
