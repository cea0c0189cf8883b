"""What a check found: how bad, what was seen, what to do about it, and where it is documented."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    PASS = "pass"  # noqa: S105 - a word, no secret
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One finding, for people.

    Args:
        level: `fail` keeps a deployment from starting, `warn` does not.
        seen: what was found.
        remedy: what to do; empty where all is well.
        page: the documentation of it.
    """

    level: Level
    seen: str
    remedy: str = ""
    page: str = ""


def passed(seen: str) -> Finding:
    """All is well."""
    return Finding(Level.PASS, seen)


def warned(seen: str, remedy: str, page: str = "") -> Finding:
    """It deploys, but is worth knowing."""
    return Finding(Level.WARN, seen, remedy, page)


def failed(seen: str, remedy: str, page: str = "") -> Finding:
    """A deployment would fail."""
    return Finding(Level.FAIL, seen, remedy, page)
