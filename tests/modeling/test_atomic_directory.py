import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from byollm.modeling.atomic_directory import atomic_directory


def write(target: Path, text: str) -> None:
    with atomic_directory(target) as fresh:
        (fresh / "file").write_text(text)


def test_it_makes_parents_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    write(target, "one")
    write(target, "two")
    assert (target / "file").read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "target", "one")
    with pytest.raises(TypeError):
        write(tmp_path / "target", 1)
    assert (tmp_path / "target" / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_writer_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "target", "one")
    script = (
        "import os, pathlib, signal\n"
        "from byollm.modeling.atomic_directory import atomic_directory\n"
        f"with atomic_directory(pathlib.Path({str(tmp_path / 'target')!r})) as fresh:\n"
        "    (fresh / 'file').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "target" / "file").read_text() == "one"
    write(tmp_path / "target", "two")
    assert (tmp_path / "target" / "file").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["target"], "what the killed one left is gone"


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "target", "one")
    (tmp_path / "target").rename(tmp_path / ".target.old")
    with pytest.raises(TypeError):
        write(tmp_path / "target", 1)
    assert (tmp_path / "target" / "file").read_text() == "one"
