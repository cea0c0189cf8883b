"""Packed token shards as training windows: memory-mapped, and pure functions of (step, seed)."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from byollm.data.errors import DataError

IGNORED = -100  # the target torch's cross entropy leaves out


class TokenDataset:
    """One split of a directory that `byollm data prepare` wrote, as one long stream of tokens.

    The stream is read as a ring: its end is followed by its beginning, which is a document's beginning. An
    epoch cuts the ring into windows from an offset of its own and visits each once, in an order of its own.
    """

    def __init__(self, shards: list[NDArray[Any]], text_bytes: int, vocab_size: int) -> None:
        self._shards = shards
        self._ends = np.cumsum([len(shard) for shard in shards])
        self.tokens = int(self._ends[-1])
        """Tokens in the split, separators included."""
        self.bytes = text_bytes
        """Bytes of the split's text: what bits per byte divides by."""
        self.vocab_size = vocab_size

    @classmethod
    def open(cls, directory: Path | str, split: str) -> Self:
        """Open `split` (`train` or `val`) of a prepared directory.

        Raises:
            DataError: the directory was not prepared, not to the end, or has changed since.
        """
        directory = Path(directory)
        file = directory / "manifest.json"
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
            part, dtype = manifest["splits"][split], np.dtype(manifest["token_type"])
            shards = [_open_shard(directory, dtype, shard) for shard in part["shards"]]
            return cls(shards, part["bytes"], manifest["vocab_size"])
        except FileNotFoundError:
            raise DataError(
                f"{directory}: no finished data here (no manifest.json, or shards are missing). "
                f"Run `byollm data prepare --out {directory}`; a run that was interrupted continues."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}: not a manifest with a split {split!r} ({error!r}).") from error

    def windows_per_epoch(self, length: int) -> int:
        """Return how many windows of `length` tokens an epoch has."""
        count = self.tokens // length
        if count < 1:
            raise DataError(
                f"the split has {self.tokens:,} tokens, fewer than one window of {length:,}. "
                "Prepare more text, or train with a shorter context."
            )
        return count

    def batch(self, step: int, batch_size: int, length: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return (inputs, targets) of training step `step`, both (batch_size, length) int64.

        A pure function of its arguments and the data, so that a resumed run sees what an unbroken one would.
        """
        per_epoch = self.windows_per_epoch(length)
        rows = np.empty((batch_size, length + 1), dtype=np.int64)
        for row in range(batch_size):
            epoch, place = divmod(step * batch_size + row, per_epoch)
            offset = int(np.random.default_rng((seed, epoch, 1)).integers(length))
            order = epoch_order(per_epoch, seed, epoch)
            rows[row] = self._read(offset + int(order[place]) * length, length + 1)
        both = torch.from_numpy(rows)
        return both[:, :-1].contiguous(), both[:, 1:].contiguous()

    def windows(self, length: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets), both (length,) int64, over the whole split in order: for validation.

        Every token but the first is a target once; the last window is filled up with targets of -100.
        """
        for start in range(0, self.tokens - 1, length):
            count = min(length, self.tokens - 1 - start)
            tokens = torch.from_numpy(self._read(start, count + 1))
            inputs, targets = torch.zeros(length, dtype=torch.int64), torch.full((length,), IGNORED)
            inputs[:count], targets[:count] = tokens[:-1], tokens[1:]
            yield inputs, targets

    def _read(self, start: int, count: int) -> NDArray[np.int64]:
        """Return `count` tokens of the ring from `start`."""
        pieces, start = list[NDArray[Any]](), start % self.tokens
        while count > 0:
            index = int(np.searchsorted(self._ends, start, side="right"))
            shard = self._shards[index]
            begin = start - (int(self._ends[index]) - len(shard))
            piece = shard[begin : begin + count]
            pieces.append(piece)
            count -= len(piece)
            start = (start + len(piece)) % self.tokens
        return np.concatenate(pieces).astype(np.int64)


@lru_cache(maxsize=4)  # a batch can straddle two epochs; training and validation alternate
def epoch_order(windows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits its windows."""
    return np.random.default_rng((seed, epoch)).permutation(windows)


def _open_shard(directory: Path, dtype: np.dtype[Any], shard: dict[str, Any]) -> NDArray[Any]:
    path = directory / f"{shard['name']}.bin"
    if path.stat().st_size != shard["tokens"] * dtype.itemsize:
        raise DataError(f"{path}: not the size the manifest says. `byollm data prepare` mends it.")
    return np.memmap(path, dtype=dtype, mode="r")
