"""How each kernel is launched: as its own default says, or as `byollm tune` found best on this kind of GPU.

A configuration holds the constants that a kernel is compiled with (tiles, splits) and Triton's num_warps and
num_stages; it never changes what is computed, but for the order of sums.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from byollm.settings import ByollmError

Configuration = dict[str, int]
Table = dict[str, Configuration]
"""Configurations by `key`."""

_table: Table = {}
_asked: Table | None = None


class TuningError(ByollmError):
    """A table of configurations cannot be read or made."""


class _Stored(BaseModel):
    """The contents of a table's file."""

    model_config = ConfigDict(extra="forbid")

    gpu: str
    configurations: dict[str, dict[str, PositiveInt]]


def configuration(
    kernel: str, default: Callable[..., Configuration], rows: int, *sizes: int
) -> Configuration:
    """Return how to launch a kernel.

    Args:
        kernel: its name.
        default: the configuration for (rows, *sizes) where none was measured; a pure function.
        rows: how much there is to do, which changes from step to step; rounded up to a power of two.
        sizes: what the model fixes, such as widths.
    """
    rows = bucket(rows)
    place = key(kernel, rows, *sizes)
    config = _table.get(place) or default(rows, *sizes)
    if _asked is not None:
        _asked[place] = config
    return config


def bucket(rows: int) -> int:
    """Return the power of two that is `rows` or next above it."""
    return 1 << max(0, rows - 1).bit_length()


def key(kernel: str, rows: int, *sizes: int) -> str:
    """Return where a kernel's configuration for a bucket of rows stands in a table."""
    return f"{kernel}/{'x'.join(map(str, (rows, *sizes)))}"


def use(table: Table) -> None:
    """Launch by this table from now on, in this process; what it does not name keeps its default."""
    global _table
    _table = table


@contextmanager
def using(table: Table) -> Iterator[None]:
    """Launch by this table within a block, above what is in use."""
    before = _table
    use(before | table)
    try:
        yield
    finally:
        use(before)


@contextmanager
def asking() -> Iterator[Table]:
    """Note which configurations are asked for within a block, and what the answers are."""
    global _asked
    before, _asked = _asked, {}
    try:
        yield _asked
    finally:
        _asked = before


def table_path(gpu: str) -> Path:
    """Return where a user's table for a kind of GPU is kept."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "byollm" / "tuning" / (re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") + ".json")


def read_table(path: Path, gpu: str) -> Table:
    """Read a table that was stored for a kind of GPU.

    Raises:
        TuningError: it cannot be read, is no such table, or is for another GPU.
    """
    try:
        stored = _Stored.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TuningError(f"cannot read the kernel configurations {path}: {error.strerror}") from error
    except ValidationError as error:
        raise TuningError(f"{path} holds no kernel configurations: delete it or run `byollm tune`") from error
    if stored.gpu != gpu:
        raise TuningError(f"{path} was measured on {stored.gpu}, and this is {gpu}: run `byollm tune` here")
    return stored.configurations


def write_table(path: Path, gpu: str, table: Table) -> None:
    """Store a table, whole or not at all.

    Raises:
        TuningError: it cannot be written.
    """
    stored = json.dumps({"gpu": gpu, "configurations": table}, indent=1)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("w") as file:
            file.write(stored)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise TuningError(f"cannot write the kernel configurations {path}: {error.strerror}") from error
