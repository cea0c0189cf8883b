"""Checkpoints of a run: each appears whole or not at all, and is trusted only if its hashes agree."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from byollm.data.storage import sha256
from byollm.modeling.atomic_directory import atomic_directory
from byollm.training.errors import ResumeError

KEPT = 2
TENSORS, STATE, DONE = "tensors.safetensors", "state.json", "DONE"
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps: tensors by name, and everything else that it needs to go on."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The directory of a run's checkpoints, `step-NNNNNNNN`, of which the newest two are kept.

    Args:
        directory: created at the first save
        warn: told about what could not be written or read
    """

    def __init__(self, directory: Path, warn: Callable[[str], None]) -> None:
        self._directory, self._warn = directory, warn

    def save(self, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint and remove those that are older than the newest two.

        A full disk or another refusal to write leaves what was there as it was; the training goes on, the
        reason is told, and the result is False.
        """
        target = self._directory / f"step-{checkpoint.step:08d}"
        try:
            with atomic_directory(target) as fresh:
                save_file(checkpoint.tensors, fresh / TENSORS)
                _write(fresh / STATE, checkpoint.state)
                _write(fresh / DONE, {name: sha256(fresh / name) for name in (TENSORS, STATE)})
        except (OSError, SafetensorError) as error:
            self._warn(
                f"checkpoint of step {checkpoint.step} could not be written to {self._directory} ({error}). "
                "The one before it is intact and training goes on; free some space before the next one."
            )
            return False
        for old in self._all()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return True

    def newest(
        self, misses: Callable[[dict[str, Any]], str | None] = lambda state: None
    ) -> Checkpoint | None:
        """Read the newest checkpoint that is whole; None where the run has not got beyond its beginning.

        That is so where there is none at all, and where there is only that of step 0, before anything was
        learned, and it is damaged: a copy of it was broken off, as when a spot instance is reclaimed while
        SageMaker copies to S3. It is removed.

        Args:
            misses: says what a checkpoint of this state lacks outside of its directory, if anything.

        Raises:
            ResumeError: there are checkpoints, and all of them are damaged.
        """
        self._remove_unfinished()
        found, faults = self._all(), list[str]()
        for path in found:
            fault = _fault(path)
            if fault is None:
                state = json.loads((path / STATE).read_text(encoding="utf-8"))
                fault = misses(state)
            if fault is None:
                # cloned: the file's pages are neither aligned as torch aligns nor sure to stay
                tensors = {name: tensor.clone() for name, tensor in load_file(path / TENSORS).items()}
                return Checkpoint(_step(path), tensors, state)
            if found == [path] and _step(path) == 0:
                self._warn(f"{path}: damaged ({fault}); nothing was learned before it, the run begins anew")
                shutil.rmtree(path)
                return None
            self._warn(f"{path}: damaged ({fault}); falling back to the checkpoint before it")
            faults.append(fault)
        if found:
            raise ResumeError(
                f"{self._directory}: no checkpoint is whole ({faults[0]}), so the run cannot be continued. "
                f"Restore the directory from a copy, or remove {self._directory.parent} to start over."
            )
        return None

    def _all(self) -> list[Path]:
        """Return the checkpoints, newest first."""
        if not self._directory.is_dir():
            return []
        return sorted(
            (p for p in self._directory.iterdir() if _NAME.fullmatch(p.name)), key=_step, reverse=True
        )

    def _remove_unfinished(self) -> None:
        for leftover in self._directory.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _fault(path: Path) -> str | None:
    try:
        hashes = json.loads((path / DONE).read_text(encoding="utf-8"))
        for name in (TENSORS, STATE):
            if sha256(path / name) != hashes[name]:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{DONE} cannot be read: {error}"
    return None


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _write(path: Path, value: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
