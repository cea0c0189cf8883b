"""What a container writes becomes lines with times, within bounds, and is read once and in order."""

import time
from pathlib import Path

import pytest

from byollm.local.container_init import LINE_BYTES, BoundedLog
from byollm.local.log_lines import LogLines, Place


def texts(lines: LogLines) -> list[str]:
    return [line.text for line in lines.read()]


def test_lines_come_once_when_they_are_complete_and_with_their_time(tmp_path: Path) -> None:
    log, lines = BoundedLog(tmp_path / "log"), LogLines(tmp_path / "log", Place())
    assert lines.read() == []
    before = time.time()
    assert log.write(b"one\ntw")
    (one,) = lines.read()
    assert one.text == "one"
    assert before - 0.001 <= one.time / 1000 <= time.time()
    assert not log.write(b"o")
    assert log.write(b"\n\n\xff\nthree")
    assert texts(lines) == ["two", "", "\ufffd"]
    log.close()
    assert texts(lines) == ["three"]
    assert lines.read() == []


def test_times_do_not_go_back_with_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = BoundedLog(tmp_path / "log")
    for now in (1_700_000_000.25, 1_600_000_000.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        log.write(b"line\n")
    assert [line.time for line in LogLines(tmp_path / "log", Place()).read()] == [1_700_000_000_250] * 2


def test_a_log_stays_within_its_bounds_and_keeps_the_end(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "a.log", limit=1000)
    for number in range(100):
        log.write(f"line {number:03}\n".encode())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    lines = LogLines(tmp_path / "a.log", Place())
    kept = texts(lines) + texts(lines)
    assert kept == [f"line {number:03}" for number in range(100 - len(kept), 100)]
    assert len(kept) > 20


def test_a_line_without_an_end_becomes_several(tmp_path: Path) -> None:
    log, lines = BoundedLog(tmp_path / "log"), LogLines(tmp_path / "log", Place())
    for _ in range(5):
        log.write(b"x" * (LINE_BYTES // 2))
    assert texts(lines) == ["x" * LINE_BYTES]
    log.write(b"y" * 2 * LINE_BYTES + b"\n")
    read = texts(lines) + texts(lines) + texts(lines)
    assert "".join(read) == "x" * LINE_BYTES + "x" * (LINE_BYTES // 2) + "y" * 2 * LINE_BYTES
    assert max(map(len, read)) == LINE_BYTES


def test_a_file_that_is_full_is_read_to_its_end_before_the_next(tmp_path: Path) -> None:
    log, lines = BoundedLog(tmp_path / "log", limit=100), LogLines(tmp_path / "log", Place())
    log.write(b"one\ntwo\n")
    assert texts(lines) == ["one", "two"]
    log.write(b"three\n")
    log.write(b"four\n")
    assert (tmp_path / "log.1").exists()
    assert texts(lines) + texts(lines) == ["three", "four"]


def test_reading_goes_on_at_a_place_that_was_kept(tmp_path: Path) -> None:
    log, lines = BoundedLog(tmp_path / "log", limit=100), LogLines(tmp_path / "log", Place())
    log.write(b"one\n")
    lines.read()
    place = lines.place
    log.write(b"two\n")
    assert Place.end_of(tmp_path / "log") != place
    assert texts(LogLines(tmp_path / "log", place)) == ["two"]
    log.write(b"three\nfour\n")  # into the next file
    again = LogLines(tmp_path / "log", place)
    assert texts(again) + texts(again) == ["two", "three", "four"]
    assert texts(LogLines(tmp_path / "log", Place.end_of(tmp_path / "log"))) == []


def test_what_a_kill_left_of_a_line_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(
        b"2026-01-01T00:00\n2026-01-01T00:00:00.000Z whole\n2026-01-01T00:00:00.000Z ha"
    )
    assert texts(LogLines(tmp_path / "log", Place())) == ["whole"]
