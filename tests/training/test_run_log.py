import resource
from pathlib import Path

import pytest

from byollm.training import ResumeError, TrainingError
from byollm.training.run_log import RunLog, read_log


def test_resuming_cuts_off_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RunLog(path)
    log.append({"step": 1})
    length = log.sync()
    log.append({"step": 2})
    log.close()
    with path.open("ab") as file:
        file.write(b'{"step": 3, "lo')  # torn by a kill
    again = RunLog(path, length)
    again.append({"step": 2})
    again.close()
    assert list(read_log(path)) == [{"step": 1}, {"step": 2}]


def test_a_log_shorter_than_the_checkpoint_says_is_not_mended_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n')
    with pytest.raises(ResumeError, match=r"has 12 bytes, but had 500"):
        RunLog(path, 500)
    assert path.read_text() == '{"step": 1}\n'


def test_a_full_disk_stops_with_the_remedy(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        with pytest.raises(TrainingError, match="Free some space"):
            log.append({"text": "x" * 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
