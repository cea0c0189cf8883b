"""Rows and lines out of untrusted bytes."""

import io

from byollm.data.files import Member
from byollm.data.records import Fault, Row, lines, rows


def read(
    suffix: str, content: bytes, line_limit: int = 10_000, file_limit: int = 100_000
) -> list[Row | Fault]:
    return list(rows(Member("x", suffix, io.BytesIO(content)), line_limit, file_limit))


def reasons(found: list[Row | Fault]) -> list[tuple[int, str]]:
    return [(item.number, item.reason) for item in found if isinstance(item, Fault)]


def values(found: list[Row | Fault]) -> list[object]:
    return [item.value for item in found if isinstance(item, Row)]


def test_jsonl_lines_are_numbered_and_bad_ones_set_aside() -> None:
    content = b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": \n\xff\xfe{}\n' + b"[" * 5000 + b'\n"last"'
    found = read(".jsonl", content)
    assert values(found) == [{"a": 1}, "last"]
    assert reasons(found) == [(3, "not JSON"), (4, "not UTF-8"), (5, "not JSON")]
    fault = found[2]
    assert isinstance(fault, Fault)
    assert fault.excerpt == "\\xff\\xfe{}\n"


def test_a_huge_line_is_skipped_whole_and_reported() -> None:
    content = b'"one"\n"' + b"x" * 3_000_000 + b'"\n"three"\n' + b"y" * 20_000
    found = read(".jsonl", content)
    assert values(found) == ["one", "three"]
    assert reasons(found) == [(2, "line too long"), (4, "line too long")]
    fault = found[1]
    assert isinstance(fault, Fault)
    assert "3,000,003 bytes" in fault.detail
    assert len(fault.excerpt) <= 2**16


def test_a_line_of_exactly_the_limit_is_read() -> None:
    assert [line for line in lines(io.BytesIO(b"1234\n12345\n"), 5) if not isinstance(line, Fault)] == [
        (1, b"1234\n")
    ]


def test_json_files_give_their_items() -> None:
    assert values(read(".json", b'[{"a": 1}, {"a": 2}]')) == [{"a": 1}, {"a": 2}]
    assert values(read(".json", b'{"a": 1}')) == [{"a": 1}]
    assert read(".json", b" ") == []
    assert reasons(read(".json", b"[1,")) == [(1, "not JSON")]
    assert reasons(read(".json", b"[1]" + b" " * 100_000)) == [(1, "file too long")]


def test_csv_records_span_lines_and_faults_have_the_line_number() -> None:
    content = b'\xef\xbb\xbfid,text\r\n1,"two\r\nlines, ""quoted"""\r\n2,b,c\r\n3\r\n4,\xff\r\n5,e\r\n'
    found = read(".csv", content)
    assert values(found) == [
        {"id": "1", "text": 'two\nlines, "quoted"'},
        {"id": "3"},
        {"id": "5", "text": "e"},
    ]
    assert sorted(reasons(found)) == [(4, "too many columns"), (6, "not UTF-8")]
    assert [item.number for item in found if isinstance(item, Row)] == [2, 5, 7]


def test_a_csv_quote_without_end_is_bounded() -> None:
    content = b'text\nfine\n"' + b"x" * 50 + b"\n" + (b"y" * 50 + b"\n") * 1000
    assert (
        values(read(".csv", content, line_limit=1000))[0],
        reasons(read(".csv", content, line_limit=1000))[0][1],
    ) == (
        {"text": "fine"},
        "not CSV",
    )


def test_empty_files_have_no_rows() -> None:
    assert [read(suffix, b"") for suffix in (".jsonl", ".json", ".csv")] == [[], [], []]
