from pathlib import Path
from typing import Any

import pytest

from byollm.training.curve import draw_curve


def step(number: int) -> dict[str, Any]:
    return {"step": number, "tokens": 1000 * number, "loss": 5 / number, "seconds": 0.5 * number}


def validation(number: int) -> dict[str, Any]:
    found = {"loss": 5 / number, "bits_per_byte": 3 / number}
    return {"step": number, "tokens": 1000 * number, "seconds": 0.5 * number, "validation": found}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("steps", [1, 2, 300])
@pytest.mark.parametrize("validated", [False, True])
def test_runs_of_any_length_are_drawn(steps: int, validated: bool, tmp_path: Path) -> None:
    records = [step(number) for number in range(1, steps + 1)] + [validation(steps)] * validated
    draw_curve(records, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


def test_a_run_without_steps_has_no_picture(tmp_path: Path) -> None:
    draw_curve([], tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()
