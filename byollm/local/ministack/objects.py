"""Objects of S3 that the disk has no room for: they are refused, and what was there stays.

By itself: they are taken, and gone after the next restart.
"""

from contextvars import ContextVar
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ministack.services import s3

from byollm.local.room import shortage

SIDECAR_BYTES = 2**20  # beside an object: what is said of it, with all of its versions
_unwritten: ContextVar[list[str] | None] = ContextVar("unwritten", default=None)


def refuse_unwritten(directory: Path) -> None:
    """Have every request that writes to S3 answered by whether it was written.

    Args:
        directory: the world's.
    """
    persist, handle = s3._persist_object, s3.handle_request

    def persist_or_tell(bucket: str, key: str, record: Any) -> None:
        body = record.get("body") if isinstance(record, dict) else record
        short = shortage(directory, len(body or b"") + SIDECAR_BYTES)
        if short is None:
            persist(bucket, key, record)
            if (
                isinstance(record, dict) and record.get("body") is not None
            ):  # which it drops once it is written
                short = f"the object cannot be written under {directory}"
        unwritten = _unwritten.get()
        if short is not None and unwritten is not None:
            unwritten.append(short)

    async def handle_telling(method: str, path: str, headers: Any, *given: Any, **named: Any) -> Any:
        bucket, key = s3._parse_bucket_key(path, headers)
        known, versions = _known(bucket, key)
        unwritten: list[str] = []
        _unwritten.set(unwritten)
        answer = await handle(method, path, headers, *given, **named)
        if not unwritten:
            return answer
        _put_back(bucket, key, known, versions)
        body = f"<Error><Code>InternalError</Code><Message>{escape(unwritten[0])}</Message></Error>"
        return 500, {"Content-Type": "application/xml"}, body.encode()

    s3._persist_object, s3.handle_request = persist_or_tell, handle_telling


def _known(bucket: str, key: str) -> tuple[Any, list[Any]]:
    """Return the object that is there, if there is one, and its versions."""
    found = s3._buckets.get(bucket, {}).get("objects", {}).get(key)
    return found, list(s3._object_versions.get((bucket, key)) or [])


def _put_back(bucket: str, key: str, known: Any, versions: list[Any]) -> None:
    objects = s3._buckets[bucket]["objects"]
    for store, name, value in ((objects, key, known), (s3._object_versions, (bucket, key), versions)):
        if value:
            store[name] = value
        else:
            store.pop(name, None)
