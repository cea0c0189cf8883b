"""Small float models to pack, and what watches over it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from byollm.kernels.packed import Scheme
from byollm.modeling import Decoder, DecoderConfig, save_decoder
from byollm.modeling.packing.pack import pack_model
from byollm.modeling.packing.progress import Advance
from byollm.modeling.packing.record import Record
from byollm.modeling.packing.source import DirectorySource

INT4 = Scheme("int4", 32)


@contextmanager
def quietly(what: str) -> Iterator[Advance]:
    """Progress that nobody sees."""
    yield lambda done, total: None


def write_model(directory: Path, shard_bytes: int = 40_000, seed: int = 3, **shape: Any) -> Path:
    """Write a small float model of several shards."""
    sizes = {
        "vocab_size": 300,
        "hidden_size": 48,
        "layers": 3,
        "heads": 3,
        "kv_heads": 1,
        "head_dim": 16,
        "intermediate_size": 80,
        "max_positions": 64,
    }
    torch.manual_seed(seed)
    decoder = Decoder(DecoderConfig(**(sizes | shape)))
    save_decoder(decoder, directory, dtype=torch.bfloat16, shard_bytes=shard_bytes)
    return directory


def pack(model: Path, out: Path, scheme: Scheme = INT4, **given: Any) -> Record:
    """Pack a model, into several files."""
    return pack_model(
        DirectorySource(model), out, scheme, **({"progress": quietly, "shard_bytes": 30_000} | given)
    )


def contents(directory: Path) -> dict[str, str]:
    """The hash of every file of a directory."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
