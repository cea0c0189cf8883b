"""The file of what was set aside, one JSON object a line: where it stood, why, and how it began."""

import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from byollm.data.documents import Rejected
from byollm.data.storage import UNFINISHED, disk_errors


class RejectFile:
    """Writes `rejected.jsonl`; the name appears when the writing ends, with or without an error."""

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, path.with_name(path.name + UNFINISHED)
        with disk_errors(path):
            self._file = self._partial.open("w", encoding="utf-8", errors="backslashreplace")

    def add(self, rejected: Rejected) -> None:
        """Append one line."""
        with disk_errors(self._path):
            self._file.write(json.dumps(asdict(rejected), ensure_ascii=False) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with disk_errors(self._path):
            self._file.close()
            self._partial.replace(self._path)
