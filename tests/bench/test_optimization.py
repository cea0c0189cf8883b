"""docs/optimization.md says what was measured: its tables are made from the recorded results."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.optimization.document import NOT_MEASURED, ratio, write_document
from bench.optimization.pictures import draw
from bench.optimization.techniques import METRICS, TECHNIQUES
from byollm.settings import REPOSITORY

PAGE = REPOSITORY / "docs" / "optimization.md"
RESULTS = PAGE.parent / "optimization" / "results.json"
BUDGET = next(technique for technique in TECHNIQUES if technique.key == "budget")


def row(variant: str, batch: int, **values: list[float]) -> dict[str, Any]:
    place = {"batch": batch, "context": 128, "variant": variant}
    return place | {"values": values, "foreign": [0.01] * 3}


@pytest.fixture
def measured() -> dict[str, Any]:
    where = {"commit": "abc", "date": "2026-01-02", "processor": "a CPU", "capability": "AVX2", "threads": 2}
    rows = [
        row("256", 8, first=[10.0, 12.0, 11.0], gap=[4.0, 5.0, 6.0]),
        row("64", 8, first=[20.0, 24.0, 22.0], gap=[2.0, 2.5, 3.0]),
    ]
    return {"bundled": where | {"flops": 1e11, "bandwidth": 2e10, "rows": rows}}


def test_the_page_is_made_from_what_was_recorded(tmp_path: Path) -> None:
    copy = shutil.copy(PAGE, tmp_path)
    write_document(Path(copy), json.loads(RESULTS.read_text()) if RESULTS.exists() else {})
    assert Path(copy).read_text() == PAGE.read_text(), "run: python -m bench.optimization --render"


def test_a_row_is_held_against_the_first_variant_and_less_time_is_better(measured: dict[str, Any]) -> None:
    rows = measured["bundled"]["rows"]
    assert ratio(BUDGET, rows, rows[1], "first") == pytest.approx(0.5)
    assert ratio(BUDGET, rows, rows[1], "gap") == pytest.approx(2.0)
    assert ratio(BUDGET, rows, rows[1], "decode") is None


def test_what_is_measured_takes_its_place_and_the_rest_says_that_it_is_not(
    measured: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "optimization.md"
    page.write_text(
        "<!-- measured: budget -->\nold\n<!-- end -->\ntext\n<!-- measured: threads -->\n<!-- end -->\n"
    )
    write_document(page, {"budget": measured})
    text = page.read_text()
    assert "| 64 | 22 (20-24), **0.50** |" in text
    assert "Measured 2026-01-02 at abc: a CPU" in text
    assert "old" not in text
    assert NOT_MEASURED.format(" --only threads") in text


def test_the_picture_of_the_same_figures_is_the_same_file(measured: dict[str, Any], tmp_path: Path) -> None:
    draw(BUDGET, measured, tmp_path)
    first = (tmp_path / "budget.svg").read_bytes()
    draw(BUDGET, measured, tmp_path)
    assert (tmp_path / "budget.svg").read_bytes() == first
    draw(BUDGET, None, tmp_path / "nowhere")


def test_every_technique_has_a_place_on_the_page() -> None:
    text = PAGE.read_text()
    for technique in TECHNIQUES:
        assert f"<!-- measured: {technique.key} -->" in text
    assert len(METRICS) == len({metric.label for metric in METRICS.values()})
