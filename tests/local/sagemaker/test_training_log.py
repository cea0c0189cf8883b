"""The log of a container is followed line by line, whatever becomes of its file."""

from pathlib import Path

from byollm.local.sagemaker.training_log import LINE, Tail


def test_lines_come_once_and_when_they_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.lines() == []
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert tail.lines() == ["one"]
        file.write("o\nthree")
    assert tail.lines() == ["two"]
    assert tail.lines(last=True) == ["three"]


def test_a_file_that_is_replaced_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    tail = Tail(path)
    assert tail.lines() == ["one"]
    with path.open("a") as file:
        file.write("two\n")
    path.replace(tmp_path / "log.1")
    path.write_text("three\n")
    assert tail.lines() == ["two", "three"]


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * (3 * LINE))
    tail = Tail(path)
    assert tail.lines() == ["x" * LINE]
    path.write_bytes(b"\xff\n")
    assert Tail(path).lines() == ["�"]
