"""Made-up sentences, and a pack of pairs of them."""

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "cat",
    "dogs",
    "see",
    "sees",
    "a",
    "house",
    "many",
    "girls",
    "insulted",
    "themselves",
    "herself",
]
CONTEXT = 128  # the tiny model's


def sentence(chance: random.Random, words: int = 6) -> str:
    return " ".join(chance.choices(WORDS, k=words)).capitalize() + "."


def pack(directory: Path, paradigms: dict[str, list[dict[str, Any]]]) -> Path:
    """Write a pack in BLiMP's layout."""
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(directory / "blimp.tar.xz", "w:xz") as archive:
        for name, pairs in paradigms.items():
            content = "".join(json.dumps(pair) + "\n" for pair in pairs).encode()
            entry = tarfile.TarInfo(f"blimp/data/{name}.jsonl")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return directory
