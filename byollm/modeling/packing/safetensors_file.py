"""The safetensors format, read by ranges of bytes and written tensor by tensor.

The library maps files, and writes them from tensors that are all in memory. Here neither is wanted: a shard
may lie in S3, and be larger than memory. https://github.com/huggingface/safetensors#format
"""

import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from byollm.modeling.errors import CheckpointError
from byollm.modeling.packing.source import Source, read_bytes, sha256_of
from byollm.modeling.weight_files import READABLE

LENGTH_BYTES = 8  # of the header, little-endian, at the beginning of the file
MAX_HEADER = 100_000_000  # as the library has it
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
WORDS = {dtype: word for word, dtype in DTYPES.items()}


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies in its file, and what it is."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(source: Source, file: str) -> dict[str, TensorEntry]:
    """Return the tensors of a safetensors file.

    Raises:
        CheckpointError: the file is damaged or cut short; it is named with its hash.
    """
    size = source.files()[file]
    try:
        length = int.from_bytes(read_bytes(source, file, 0, min(LENGTH_BYTES, size)), "little")
        if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, MAX_HEADER):
            raise ValueError(f"its header should have {length:,} bytes, the file has {size:,}")
        first = LENGTH_BYTES + length
        header = json.loads(read_bytes(source, file, LENGTH_BYTES, first))
        header.pop("__metadata__", None)
        entries = {name: _entry(name, said, first) for name, said in header.items()}
        _check_cover(entries.values(), first, size)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{source.name}: {file} is damaged or cut short ({error}); its SHA-256 is "
            f"{sha256_of(source, file)}. Copy the file afresh"
        ) from None
    return entries


def read_tensor(source: Source, file: str, entry: TensorEntry) -> Tensor:
    """Read one tensor into memory of its own."""
    dtype = DTYPES[entry.dtype]
    if entry.start == entry.stop:
        return torch.empty(entry.shape, dtype=dtype)
    return torch.frombuffer(read_bytes(source, file, entry.start, entry.stop), dtype=dtype).view(entry.shape)


def _entry(name: str, said: dict[str, Any], first: int) -> TensorEntry:
    start, stop = said["data_offsets"]
    entry = TensorEntry(said["dtype"], tuple(said["shape"]), first + start, first + stop)
    if not all(isinstance(size, int) and size >= 0 for size in (start, stop, *entry.shape)):
        raise ValueError(f"the place or the shape of {name} is no list of whole numbers")
    width = DTYPES[entry.dtype].itemsize if entry.dtype in DTYPES else None
    if width is not None and stop - start != math.prod(entry.shape) * width:
        raise ValueError(f"{name} has {stop - start:,} bytes, which its shape and type do not make")
    return entry


def _check_cover(entries: Iterable[TensorEntry], first: int, size: int) -> None:
    """The tensors lie one after the other and fill the file."""
    at = first
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.start != at:
            raise ValueError(f"there is a hole or an overlap at byte {at:,}")
        at = entry.stop
    if at != size:
        raise ValueError(f"its tensors end at byte {at:,}, the file at {size:,}")


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that will be written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


class ShardWriter:
    """Writes one safetensors file, its tensors in any order; it is there under its name when it is whole.

    Wider types lie before narrower ones, so that each tensor is aligned in the mapped file.

    Args:
        path: what to write.
        tensors: all that it will hold.

    Raises:
        OSError: the disk is full, or may not be written to; as do the methods.
    """

    def __init__(self, path: Path, tensors: Iterable[PlannedTensor]) -> None:
        self._path, self._partial = path, path.with_name(f".{path.name}.partial")
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers reads no file without it
        self._starts: dict[str, int] = {}
        self._planned = {tensor.name: tensor for tensor in tensors}
        at = 0
        for tensor in sorted(self._planned.values(), key=lambda t: (-t.dtype.itemsize, t.name)):
            self._starts[tensor.name] = at
            header[tensor.name] = {
                "dtype": WORDS[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [at, at := at + tensor.nbytes],
            }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._first = LENGTH_BYTES + len(text)
        self._file = self._partial.open("wb")
        self._file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)

    def put(self, name: str, tensor: Tensor) -> None:
        """Write a tensor in its place; each is written once."""
        planned = self._planned.pop(name)
        assert (planned.dtype, planned.shape) == (tensor.dtype, tuple(tensor.shape)), name
        self._file.seek(self._first + self._starts[name])
        if planned.nbytes:
            self._file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:
            with suppress(OSError):  # of a full disk, once more
                self._file.close()
            self._partial.unlink(missing_ok=True)
            return
        assert not self._planned, f"never written: {', '.join(self._planned)}"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.chmod(READABLE)
        self._partial.rename(self._path)
