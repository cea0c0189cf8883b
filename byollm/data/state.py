"""What a run of `prepare` has finished so far, and whether a later run may continue it."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from byollm.data.errors import DataError
from byollm.data.shards import Shard
from byollm.data.storage import UNFINISHED, disk_errors, sha256, write_json

FILE = "state.json"


@dataclass
class State:
    """The plan a directory is being filled by, and the finished parts."""

    directory: Path
    plan: dict[str, Any]
    boundary: int | None = None  # None until the tokenizer is trained
    tokenizer: dict[str, str] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)

    def add(self, shard: Shard | None) -> None:
        """Record a finished shard; None is nothing to record."""
        if shard is not None:
            self.shards = sorted([*self.shards, shard], key=lambda shard: shard.name)
            self.save()

    def save(self) -> None:
        """Write the state atomically."""
        value = {
            "plan": self.plan,
            "boundary": self.boundary,
            "tokenizer": self.tokenizer,
            "shards": [shard.to_json() for shard in self.shards],
        }
        write_json(self.directory / FILE, value)


def inputs(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return name, size and hash of each input file."""
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths]


def open_state(directory: Path, plan: dict[str, Any], force: bool) -> State:
    """Return the state of an earlier run by the same plan, or a fresh one.

    Finished shards that are no longer what was written, and all after them in their split, are made again.

    Raises:
        DataError: the directory was filled by another plan, and `force` is not given.
    """
    file = directory / FILE
    if not file.is_file():
        foreign = sorted(path.name for path in _made(directory) if path.suffix != UNFINISHED)
        if foreign and not force:
            raise DataError(
                f"{directory} holds {', '.join(foreign[:5])}, which `byollm data prepare` would replace but "
                "did not make. Choose another directory with --out, or replace them with --force."
            )
        return _fresh(directory, plan)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        shards = [Shard(**shard) for shard in value["shards"]]
        state = State(directory, value["plan"], value["boundary"], value["tokenizer"], shards)
    except (ValueError, KeyError, TypeError) as error:
        if force:
            return _fresh(directory, plan)
        raise DataError(f"{file}: damaged ({error}). Run again with --force to start over.") from error
    if state.plan != plan:
        if force:
            return _fresh(directory, plan)
        raise DataError(
            f"{directory} holds data prepared differently: {'; '.join(differences(state.plan, plan))}. "
            "Choose another directory with --out, or start over in this one with --force."
        )
    if state.boundary is not None and not _tokenizer_intact(state):
        return _fresh(directory, plan)
    broken: set[str] = set()
    intact = []
    for shard in state.shards:
        if shard.split not in broken and shard.intact(directory):
            intact.append(shard)
        else:
            broken.add(shard.split)
    if broken:
        state.shards = intact
        (directory / "manifest.json").unlink(missing_ok=True)
        state.save()
    return state


def _made(directory: Path) -> list[Path]:
    patterns = (
        "manifest.json",
        "rejected.jsonl",
        "tokenizer",
        "train-*.bin",
        "val-*.bin",
        "*.docs.npy",
        "tokenizer.partial",
        "train-*.partial",
        "val-*.partial",
        "*.json.partial",
        "rejected.jsonl.partial",
    )
    return [path for pattern in patterns for path in directory.glob(pattern)]


def _fresh(directory: Path, plan: dict[str, Any]) -> State:
    """Start over; whatever an earlier run made here goes, its state last."""
    with disk_errors(directory):
        for old in _made(directory):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    state = State(directory, plan)
    state.save()
    return state


def _tokenizer_intact(state: State) -> bool:
    files = {name: state.directory / "tokenizer" / name for name in state.tokenizer}
    return all(path.is_file() and sha256(path) == state.tokenizer[name] for name, path in files.items())


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return in words how two plans differ, a phrase a setting."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) == new.get(key):
            continue
        if key == "inputs":
            before = {entry["name"]: entry["sha256"] for entry in old.get(key, [])}
            after = {entry["name"]: entry["sha256"] for entry in new[key]}
            names = [name for name in sorted(before | after) if before.get(name) != after.get(name)]
            found.append(f"input files changed: {', '.join(names) or 'their order'}")
        elif key in ("sources", "conversations"):
            found.append(f"data.{key} was another list")
        else:
            found.append(f"data.{key} was {old.get(key)!r}, now {new.get(key)!r}")
    return found
