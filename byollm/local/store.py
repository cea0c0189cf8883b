"""What an emulated service remembers: documents by kind and name, which outlive a restart and a kill."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class Store:
    """Documents in one SQLite file; every write is on disk when it returns.

    For one process: two stores on one file would not see each other's order of writes.

    Args:
        path: the file, made if missing; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS documents"
            " (kind TEXT, name TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID"
        )

    def get(self, kind: str, name: str) -> Document | None:
        """Return a document, or None where there is none; changing it changes nothing stored."""
        found = self._database.execute(
            "SELECT body FROM documents WHERE kind = ? AND name = ?", (kind, name)
        ).fetchone()
        return None if found is None else json.loads(found[0])

    def put(self, kind: str, name: str, body: Document) -> None:
        """Write a document, new or in place of the one of that name."""
        self._database.execute(
            "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
            (kind, name, json.dumps(body)),
        )

    def delete(self, kind: str, name: str) -> bool:
        """Remove a document; tell whether there was one."""
        gone = self._database.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name))
        return gone.rowcount > 0

    def list(self, kind: str) -> Iterator[Document]:
        """Yield the documents of one kind in the order of their names, as they were when asked for."""
        for (body,) in self._database.execute(
            "SELECT body FROM documents WHERE kind = ? ORDER BY name", (kind,)
        ).fetchall():
            yield json.loads(body)

    def close(self) -> None:
        """Give the file back."""
        self._database.close()
