"""Documents by each rule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from byollm.data.documents import Document, Rejected, clean, documents
from byollm.settings.data import DataSettings

Write = Callable[[str, str | bytes], Path]
MakeSettings = Callable[..., DataSettings]


def read(settings: MakeSettings, path: Path, **values: Any) -> list[Document | Rejected]:
    source = {"path": path} | {
        k: values.pop(k) for k in ("documents", "text_field", "members") if k in values
    }
    made = settings([source], **values)
    return list(documents(path, made.sources[0], made, lambda count: None))


def texts(found: list[Document | Rejected]) -> list[str]:
    return [item.text for item in found if isinstance(item, Document)]


def faults(found: list[Document | Rejected]) -> list[tuple[int, str]]:
    return [(item.number, item.reason) for item in found if isinstance(item, Rejected)]


def test_clean_makes_line_ends_and_blank_lines_alike() -> None:
    assert clean("\r\n a\r\nb\rc\n \n\t\n\nd \n") == "a\nb\nc\n\nd"


def test_documents_between_blank_lines_know_their_first_line(write: Write, settings: MakeSettings) -> None:
    path = write("a.txt", "\n\none\nmore\n\n \ntwo\n\n\n")
    found = read(settings, path, documents="blank-lines")
    assert found == [Document("a.txt", 3, "one\nmore"), Document("a.txt", 7, "two")]


def test_a_whole_file_and_single_lines_are_documents_too(write: Write, settings: MakeSettings) -> None:
    path = write("a.txt", "one\n\ntwo\n")
    assert texts(read(settings, path, documents="file")) == ["one\n\ntwo"]
    assert texts(read(settings, path, documents="rows")) == ["one", "two"]


def test_pages_end_at_the_first_blank_line_after_their_length(write: Write, settings: MakeSettings) -> None:
    paragraphs = [f"{number} " + "x" * 40 for number in range(5)]
    path = write("a.txt", "\n\n".join(paragraphs))
    found = texts(read(settings, path, page_characters=60))
    assert found == ["\n\n".join(paragraphs[:2]), "\n\n".join(paragraphs[2:4]), paragraphs[4]]


def test_pages_of_a_text_without_blank_lines_end_at_a_line_end(write: Write, settings: MakeSettings) -> None:
    path = write("a.txt", "123456789\n" * 100)
    found = texts(read(settings, path, page_characters=50))
    assert [len(text) for text in found] == [199] * 5
    assert "\n".join(found) == ("123456789\n" * 100).strip()


def test_tables_give_a_document_a_row_or_one_a_file(write: Write, settings: MakeSettings) -> None:
    path = write("a.csv", 'section,text\n1,"one\nmore"\n2,two\n')
    assert texts(read(settings, path)) == ["one\nmore", "two"]
    assert texts(read(settings, path, documents="file")) == ["one\nmore\ntwo"]
    path = write("a.jsonl", '{"body": "one"}\n"two"\n{"text": "three"}\n[4]\n{"body": 5}\n')
    found = read(settings, path, text_field="body")
    assert texts(found) == ["one", "two"]
    assert faults(found) == [(3, "no text field"), (4, "no text field"), (5, "no text field")]


def test_bytes_that_are_not_utf8_set_their_document_aside(write: Write, settings: MakeSettings) -> None:
    path = write("a.txt", b"one\n\ntwo\n\xff\n\nthree\n")
    found = read(settings, path, documents="blank-lines")
    assert texts(found) == ["one", "three"]
    assert faults(found) == [(3, "not UTF-8")]
    rejected = next(item for item in found if isinstance(item, Rejected))
    assert (rejected.detail, rejected.excerpt) == ("line 4 of the file", "two\n\\xff\n")


def test_documents_and_lines_beyond_the_limits_are_set_aside(write: Write, settings: MakeSettings) -> None:
    path = write("a.txt", "one\n\n" + "x" * 50 + "\n\n" + "y\n" * 40 + "\ntwo\n")
    found = read(settings, path, documents="blank-lines", max_line_bytes=30, max_document_bytes=60)
    assert texts(found) == ["one", "two"]
    assert faults(found) == [(3, "line too long"), (5, "document too long")]
    path = write("a.csv", "text\n" + "123456789\n" * 7)
    found = read(settings, path, documents="file", max_document_bytes=60)
    assert (texts(found), faults(found)) == ([], [(2, "document too long")])


def test_an_empty_file_has_no_documents(write: Write, settings: MakeSettings) -> None:
    for name in ("a.txt", "a.jsonl", "a.csv", "a.json"):
        assert read(settings, write(name, "")) == []
        assert read(settings, write(name, " \n\n")) == []
