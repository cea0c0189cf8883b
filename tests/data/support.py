"""Texts made up on the spot, and what a prepared directory holds."""

import json
import random
from pathlib import Path
from typing import Any

SYLLABLES = [
    "ba",
    "be",
    "bi",
    "bo",
    "da",
    "de",
    "di",
    "do",
    "ka",
    "ke",
    "ki",
    "ko",
    "la",
    "le",
    "li",
    "lo",
    "ma",
    "me",
    "mi",
    "mo",
    "na",
    "ne",
    "ni",
    "no",
    "ra",
    "re",
    "ri",
    "ro",
    "sa",
    "se",
    "si",
    "so",
]


def prose(seed: int, words: int = 60) -> str:
    """Return made-up sentences: no two seeds alike, compressing about as prose does."""
    chance = random.Random(seed)
    vocabulary = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(words)]
    lines = []
    while vocabulary:
        sentence, vocabulary = vocabulary[:12], vocabulary[12:]
        lines.append(" ".join(sentence).capitalize() + ".")
    return "\n".join(lines)


def rejects(directory: Path) -> list[dict[str, Any]]:
    """Return what was set aside in `directory`."""
    return [json.loads(line) for line in (directory / "rejected.jsonl").read_text().splitlines()]


def tree(directory: Path) -> dict[str, bytes]:
    """Return every file under `directory` and its bytes."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }
