from typing import Any

import pytest

from byollm.training.reporter import Reporter


def record(step: int, loss: float = 3.0) -> dict[str, Any]:
    return {"step": step, "loss": loss, "tokens": 100 * step, "tokens_per_second": 50.0, "mfu": 0.7}


def test_lines_tell_loss_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.start(0, 4)
    reporter.step(record(1, loss=4.0))
    reporter.step(record(2))  # too soon for another line
    reporter.step(record(4, loss=2.0))
    reporter.stop()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "step 1/4  loss 4.0000  50 tokens/s  MFU 70%  0m 06s left",
        "step 4/4  loss 3.0000  50 tokens/s  MFU 70%  0m 00s left",
    ]


def test_a_validation_has_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.start(0, 4)
    found = {"loss": 2.5, "accuracy": 0.25, "bits_per_byte": 1.5}
    reporter.validation({"step": 4, "tokens": 4000, "seconds": 3725, "validation": found})
    line = "step 4/4  4,000 tokens  1h 02m  validation: loss 2.5000  accuracy 25.00%  1.5000 bits/byte\n"
    assert capsys.readouterr().err == line
