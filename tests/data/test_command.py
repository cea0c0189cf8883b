"""`byollm data` as people type it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.data.support import prose

Write = Callable[[str, str | bytes], Path]


def byollm(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "byollm", "data", *arguments],
        cwd=directory,
        env=os.environ | {"BYOLLM__DATA__DIRECTORY": "packs", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_prepare_reads_the_files_given_and_tells_what_came_out(write: Write, tmp_path: Path) -> None:
    rows = [json.dumps({"text": prose(number)}) for number in range(50)]
    write("packs/a.jsonl", "\n".join([*rows, "{"]))
    done = byollm(tmp_path, "prepare", "a.jsonl", "--out", "out", "--vocab-size", "300")
    assert done.returncode == 0, done.stderr
    assert "50 documents read" in done.stdout
    assert "1  not JSON" in done.stdout
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["vocab_size"] == 300


def test_conversations_are_prepared_under_the_output_directory(write: Write, tmp_path: Path) -> None:
    pairs = [json.dumps({"input": f"Question {number}", "output": "Answer"}) for number in range(9)]
    write("packs/a.jsonl", "\n".join([*pairs, '{"input": "x"}']))
    done = byollm(tmp_path, "conversations", "a.jsonl", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "train: 5 conversations in out/train.jsonl" in done.stdout
    assert "1  unknown shape" in done.stdout
    assert len((tmp_path / "out" / "val.jsonl").read_text().splitlines()) == 4


def test_mistakes_are_told_without_a_traceback(tmp_path: Path) -> None:
    missing = byollm(tmp_path, "prepare", "nothing.txt", "--out", "out")
    assert missing.returncode == 1
    assert "data.sources: no file nothing.txt" in missing.stderr
    wrong = byollm(tmp_path, "prepare", "nothing.txt", "--vocab-size", "5")
    assert wrong.returncode == 1
    assert "vocab_size" in wrong.stderr
    assert "Traceback" not in missing.stderr + wrong.stderr
