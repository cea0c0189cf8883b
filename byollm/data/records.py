"""Lines and rows out of untrusted bytes, one at a time, within bounds, numbered."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from byollm.data.files import Member

EXCERPT = 2**16


@dataclass(frozen=True)
class Row:
    """One row of a table: a line of JSONL, an item of a JSON array, a record of a CSV file."""

    number: int
    value: Any


@dataclass(frozen=True)
class Fault:
    """Input that is set aside: the line (or item) number, why, the particulars, and how it began."""

    number: int
    reason: str  # one of a few, so that it can be counted
    detail: str
    excerpt: str


def excerpt(data: bytes | str, limit: int = EXCERPT) -> str:
    """Return what a report keeps of an input: a bounded beginning, printable."""
    head = data[:limit]
    return head.decode("utf-8", "backslashreplace") if isinstance(head, bytes) else head


def lines(stream: IO[bytes], limit: int) -> Iterator[tuple[int, bytes] | Fault]:
    """Yield (number from 1, line with its end) and a fault for each line longer than `limit` bytes."""
    number = 0
    while line := stream.readline(limit + 1):
        number += 1
        if len(line) <= limit:
            yield number, line
            continue
        head, length = line, len(line)
        while not line.endswith(b"\n") and (line := stream.readline(2**20)):
            length += len(line)
        yield Fault(
            number, "line too long", f"{length:,} bytes, data.max_line_bytes is {limit:,}", excerpt(head)
        )


def rows(member: Member, line_limit: int, file_limit: int) -> Iterator[Row | Fault]:
    """Yield the rows of a `.jsonl`, `.json` or `.csv` member."""
    if member.suffix == ".csv":
        return _csv_rows(member.stream, line_limit)
    if member.suffix == ".json":
        return _json_items(member.stream, file_limit)
    return _jsonl_rows(member.stream, line_limit)


def _jsonl_rows(stream: IO[bytes], limit: int) -> Iterator[Row | Fault]:
    for line in lines(stream, limit):
        if isinstance(line, Fault):
            yield line
            continue
        number, data = line
        if number == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")
        if not data.strip():
            continue
        try:
            yield Row(number, json.loads(data.decode()))
        except UnicodeDecodeError as error:
            yield Fault(number, "not UTF-8", f"byte {error.start} of the line", excerpt(data))
        except (ValueError, RecursionError) as error:
            yield Fault(number, "not JSON", str(error), excerpt(data))


def _json_items(stream: IO[bytes], limit: int) -> Iterator[Row | Fault]:
    data = stream.read(limit + 1)
    if len(data) > limit:
        yield Fault(1, "file too long", f"data.max_document_bytes is {limit:,}; make it JSONL", excerpt(data))
        return
    if not data.strip():
        return
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        yield Fault(1, "not UTF-8", f"byte {error.start} of the file", excerpt(data))
    except (ValueError, RecursionError) as error:
        yield Fault(1, "not JSON", str(error), excerpt(data))
    else:
        items = value if isinstance(value, list) else [value]
        for number, item in enumerate(items, start=1):
            yield Row(number, item)


def _csv_rows(stream: IO[bytes], limit: int) -> Iterator[Row | Fault]:
    """Yield the records under the first, which names the columns; a row's number is its first line's."""
    faults: list[Fault] = []
    start = 0  # the line at which the record being read begins; 0 before its first line

    def decoded() -> Iterator[str]:
        nonlocal start
        for line in lines(stream, limit):
            if isinstance(line, Fault):
                faults.append(line)
                continue
            number, data = line
            try:
                text = data.decode("utf-8-sig" if number == 1 else "utf-8").replace("\r\n", "\n")
                start = start or number
                yield text
            except UnicodeDecodeError as error:
                faults.append(Fault(number, "not UTF-8", f"byte {error.start} of the line", excerpt(data)))

    csv.field_size_limit(limit)
    reader = csv.reader(decoded())
    header: list[str] | None = None
    while True:
        start = 0
        try:
            record = next(reader, None)
        except csv.Error as error:  # a quoted field without end
            faults.append(Fault(start, "not CSV", str(error), ""))
            record = []
        yield from faults
        faults.clear()
        if record is None:
            return
        if not record:
            continue
        if header is None:
            header = record
        elif len(record) > len(header):
            detail = f"{len(record)} columns where the header has {len(header)}"
            yield Fault(start, "too many columns", detail, excerpt(json.dumps(record, ensure_ascii=False)))
        else:
            yield Row(start, dict(zip(header, record, strict=False)))
