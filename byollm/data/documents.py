"""Documents out of sources, by the rule each source names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byollm.data.files import TEXT_SUFFIXES, Advance, Member, Skipped, members
from byollm.data.records import Fault, Row, excerpt, lines, rows
from byollm.settings.data import DataSettings, TextSource

_BLANKS = re.compile(r"\n[ \t]*\n\s*\n")


@dataclass(frozen=True)
class Document:
    """A text, and where it stood."""

    member: str
    number: int
    text: str


@dataclass(frozen=True)
class Rejected:
    """Something set aside: where it stood, why, the particulars, and how it began."""

    member: str
    number: int
    reason: str
    detail: str
    excerpt: str


def clean(text: str) -> str:
    """Return `text` with Unix line ends, without white space around it, and with one blank line at most."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    return _BLANKS.sub("\n\n", text)


def documents(
    path: Path, source: TextSource, settings: DataSettings, advance: Advance
) -> Iterator[Document | Rejected]:
    """Yield the documents of one source in order, and what was set aside instead of read."""
    for member in members(path, source.members, settings.max_unpacked_bytes, advance):
        if isinstance(member, Skipped):
            yield Rejected(member.name, 0, "member skipped", member.reason, "")
            continue
        if member.suffix in TEXT_SUFFIXES:
            found = _text_documents(member, source, settings)
        else:
            found = _table_documents(member, source, settings)
        for item in found:
            if isinstance(item, Fault):
                yield Rejected(member.name, item.number, item.reason, item.detail, item.excerpt)
            else:
                yield Document(member.name, *item)


def _text_documents(
    member: Member, source: TextSource, settings: DataSettings
) -> Iterator[tuple[int, str] | Fault]:
    """Collect lines into a document until the source's rule ends it."""
    page, limit = settings.page_characters, settings.max_document_bytes
    start, size, held = 1, 0, list[bytes]()
    for line in lines(member.stream, settings.max_line_bytes):
        if isinstance(line, Fault):
            yield line
            continue
        number, data = line
        if number == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")
        blank = not data.strip()
        match source.documents:
            case "file":
                ends = False
            case "blank-lines":
                ends = blank
            case "rows":
                ends = True
            case "auto" | "pages":  # a text without blank lines is cut at a line end instead
                ends = (blank and size >= page) or size >= 4 * page
        if ends and held:
            yield from _decoded(start, held, size, limit)
            size, held = 0, []
        if held or not blank:
            start = start if held else number
            size += len(data)
            if size <= limit or not held:  # beyond the limit only the size is kept, for the report
                held.append(data)
    if held:
        yield from _decoded(start, held, size, limit)


def _decoded(number: int, held: list[bytes], size: int, limit: int) -> Iterator[tuple[int, str] | Fault]:
    data = b"".join(held)
    if size > limit:
        detail = f"{size:,} bytes, data.max_document_bytes is {limit:,}"
        yield Fault(number, "document too long", detail, excerpt(data))
        return
    try:
        text = clean(data.decode())
    except UnicodeDecodeError as error:
        bad = number + data.count(b"\n", 0, error.start)
        yield Fault(number, "not UTF-8", f"line {bad} of the file", excerpt(data))
        return
    if text:
        yield number, text


def _table_documents(
    member: Member, source: TextSource, settings: DataSettings
) -> Iterator[tuple[int, str] | Fault]:
    joined, first, size = list[str](), 0, 0
    for row in rows(member, settings.max_line_bytes, settings.max_document_bytes):
        if isinstance(row, Fault):
            yield row
            continue
        text = _field(row, source.text_field)
        if isinstance(text, Fault):
            yield text
        elif source.documents != "file":
            if cleaned := clean(text):
                yield row.number, cleaned
        else:
            first = first or row.number
            size += len(text)
            if size <= settings.max_document_bytes:
                joined.append(clean(text))
    if size > settings.max_document_bytes:
        detail = f"{size:,} characters, data.max_document_bytes is {settings.max_document_bytes:,}"
        yield Fault(first, "document too long", detail, excerpt("\n".join(joined)))
    elif joined:
        yield first, clean("\n".join(joined))


def _field(row: Row, field: str) -> str | Fault:
    value: Any = row.value
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return Fault(row.number, "no text field", f"not an object with {field!r}", excerpt(str(value)))
    text = value.get(field)
    if not isinstance(text, str):
        there = ", ".join(map(str, list(value)[:10])) or "none"
        return Fault(row.number, "no text field", f"{field!r} is not among {there}", excerpt(str(value)))
    return text
