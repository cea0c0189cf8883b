"""A run that is killed at any moment continues, and ends with the bytes of an unbroken run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from byollm.data.prepare import prepare
from byollm.settings.data import DataSettings
from tests.data.support import prose, tree

RUN = """
import sys
from byollm.data.errors import DataError
from byollm.data.prepare import prepare
from byollm.settings.data import DataSettings
kind, value = sys.argv[2:] or ("", "")
if kind == "limit":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), int(value)))
if kind == "kill":
    from tests.data.test_restart import kill_when
    kill_when(value, DataSettings.model_validate_json(sys.argv[1]).output)
try:
    prepare(DataSettings.model_validate_json(sys.argv[1]))
except DataError as error:
    sys.exit(str(error))
"""
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "reading": lambda output: (output / "state.json").exists(),
    "saving the tokenizer": lambda output: any(output.glob("tokenizer*")),
    "encoding": lambda output: (
        (output / "rejected.jsonl.partial").exists() and (output / "tokenizer").exists()
    ),
    "inside the first shard": lambda output: any(output.glob("train-*")),
    "between shards": lambda output: (output / "train-00003.docs.npy").exists(),
    "later": lambda output: (output / "train-00009.bin.partial").exists(),
    "in the validation shard": lambda output: any(output.glob("val-*")),
}


def kill_when(moment: str, output: Path) -> None:
    """Kill this process at the next file that it opens or renames once that moment has come."""

    def watch(event: str, _: object) -> None:
        if event in ("open", "os.rename") and MOMENTS[moment](output):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


@pytest.fixture
def broken(settings: Callable[..., DataSettings], write: Callable[[str, str | bytes], Path]) -> DataSettings:
    rows = [json.dumps({"text": prose(seed, 200)}) for seed in range(500)]
    rows[250:250] = ["{", *rows[:20]]
    write("rows.jsonl", "\n".join(rows))
    return settings(["rows.jsonl"], shard_tokens=20_000, vocab_size=1000)


def start(settings: DataSettings, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, settings.model_dump_json(), *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_kills_at_many_moments_change_no_byte(broken: DataSettings, tmp_path: Path) -> None:
    unbroken = broken.model_copy(update={"output": tmp_path / "unbroken"})
    prepare(unbroken)
    for moment in MOMENTS:
        process = start(broken, "kill", moment)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
    process = start(broken)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "finished shards" in errors
    assert tree(broken.output) == tree(unbroken.output)


def test_a_full_disk_is_said_and_the_run_continues_after_it(broken: DataSettings, tmp_path: Path) -> None:
    broken = broken.model_copy(update={"shard_tokens": 100_000})
    unbroken = broken.model_copy(update={"output": tmp_path / "unbroken"})
    prepare(unbroken)
    limit = (unbroken.output / "tokenizer" / "tokenizer.json").stat().st_size  # shards hold more
    process = start(broken, "limit", str(limit))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "the disk is full" in errors
    assert "run the same command again to continue" in errors
    assert "Traceback" not in errors
    assert (broken.output / "tokenizer" / "tokenizer.json").exists()
    prepare(broken)
    assert tree(broken.output) == tree(unbroken.output)
