"""What an emulated service remembers: documents by kind and name, which outlive a restart and a kill."""

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Document = dict[str, Any]
AGAIN_S = 1.0  # until a full disk is tried again
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR")


class Store:
    """Documents in one SQLite file; every write is on disk when it returns.

    While the disk is full, what is written is kept in memory, so that services go on, and comes to the disk
    in its order once there is room; a kill before that takes it along.

    For one process: two stores on one file would not see each other's order of writes.

    Args:
        path: the file, made if missing; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS documents"
            " (kind TEXT, name TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID"
        )
        self._lock = threading.RLock()
        self._waiting: dict[tuple[str, str], str | None] = {}  # bodies; None where a document is to go
        self._again: threading.Timer | None = None

    def get(self, kind: str, name: str) -> Document | None:
        """Return a document, or None where there is none; changing it changes nothing stored."""
        with self._lock:
            body = self._waiting.get((kind, name), "")
            if body == "":
                found = self._database.execute(
                    "SELECT body FROM documents WHERE kind = ? AND name = ?", (kind, name)
                ).fetchone()
                body = found and found[0]
        return None if body is None else json.loads(body)

    def put(self, kind: str, name: str, body: Document) -> None:
        """Write a document, new or in place of the one of that name."""
        self._write(kind, name, json.dumps(body))

    def delete(self, kind: str, name: str) -> bool:
        """Remove a document; tell whether there was one."""
        with self._lock:
            there = self.get(kind, name) is not None
            if there:
                self._write(kind, name, None)
        return there

    def list(self, kind: str) -> Iterator[Document]:
        """Yield the documents of one kind in the order of their names, as they were when asked for."""
        with self._lock:
            found: dict[str, str | None] = dict(
                self._database.execute("SELECT name, body FROM documents WHERE kind = ?", (kind,))
            )
            found |= {name: body for (of, name), body in self._waiting.items() if of == kind}
        for _, body in sorted(found.items()):
            if body is not None:
                yield json.loads(body)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            if self._again is not None:
                self._again.cancel()
            self._database.close()

    def _write(self, kind: str, name: str, body: str | None) -> None:
        with self._lock:
            self._waiting.pop((kind, name), None)  # so that the order is that of the last writes
            self._waiting[kind, name] = body
            self._catch_up()

    def _catch_up(self) -> None:
        """Bring to the disk what waits for it."""
        with self._lock:
            behind, self._again = self._again, None
            if behind is not None:
                behind.cancel()
            while self._waiting:
                (kind, name), body = next(iter(self._waiting.items()))
                try:
                    self._bring(kind, name, body)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorname.startswith(_NO_ROOM):
                        self._wait(error, behind is not None)
                        return
                    del self._waiting[kind, name]
                    raise
                del self._waiting[kind, name]
        if behind is not None:
            log.info("%s is written again", self._path)

    def _bring(self, kind: str, name: str, body: str | None) -> None:
        if body is None:
            self._database.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name))
        else:
            self._database.execute(
                "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
                (kind, name, body),
            )

    def _wait(self, error: Exception, behind: bool) -> None:
        if not behind:  # once for each time that the disk is full
            log.error(
                "%s cannot be written (%s): make room there; till then memory has to do", self._path, error
            )
        self._again = threading.Timer(AGAIN_S, self._catch_up)
        self._again.daemon = True
        self._again.start()
