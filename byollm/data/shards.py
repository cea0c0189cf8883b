"""Token shards: flat streams of unsigned integers, with the offset at which each document starts."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from byollm.data.storage import sha256, write_whole


@dataclass(frozen=True)
class Shard:
    """A finished shard: `name`.bin holds the tokens, `name`.docs.npy the starts of the documents."""

    name: str
    documents: int
    tokens: int
    bytes: int  # of the documents' text in UTF-8
    sha256: str
    docs_sha256: str

    @property
    def split(self) -> str:
        """`train` or `val`."""
        return self.name.partition("-")[0]

    def intact(self, directory: Path) -> bool:
        """Tell whether the shard's files are still what was written."""
        files = {self.name + ".bin": self.sha256, self.name + ".docs.npy": self.docs_sha256}
        return all(
            (directory / file).is_file() and sha256(directory / file) == h for file, h in files.items()
        )

    def document_lengths(self, directory: Path) -> NDArray[np.int64]:
        """Return the tokens of each document, without the separators."""
        starts = np.load(directory / f"{self.name}.docs.npy")
        lengths: NDArray[np.int64] = np.diff(starts, append=self.tokens) - 1
        return lengths

    def to_json(self) -> dict[str, Any]:
        """Return the shard as the manifest lists it."""
        return asdict(self)


def token_type(vocab_size: int) -> np.dtype[Any]:
    """Return how a token is stored: two bytes where the vocabulary allows, little-endian."""
    return np.dtype("<u2") if vocab_size <= 2**16 else np.dtype("<u4")


@dataclass
class ShardWriter:
    """Collects one split's documents and writes a shard whenever `shard_tokens` are reached."""

    directory: Path
    split: str
    dtype: np.dtype[Any]
    separator: int
    shard_tokens: int
    number: int  # of the next shard
    _held: list[NDArray[Any]] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _tokens: int = 0
    _bytes: int = 0

    def add(self, ids: NDArray[np.int64], text_bytes: int) -> Shard | None:
        """Append a document behind a separator; return the shard if this filled it."""
        self._starts.append(self._tokens)
        self._held.append(np.concatenate(([self.separator], ids)).astype(self.dtype))
        self._tokens += len(ids) + 1
        self._bytes += text_bytes
        return self.close() if self._tokens >= self.shard_tokens else None

    def close(self) -> Shard | None:
        """Write what is held, if anything, as a shard."""
        if not self._held:
            return None
        name = f"{self.split}-{self.number:05d}"
        stream, docs = self.directory / f"{name}.bin", self.directory / f"{name}.docs.npy"
        tokens, starts = np.concatenate(self._held), np.array(self._starts, dtype="<i8")
        write_whole(stream, lambda file: file.write(tokens.data))
        write_whole(docs, lambda file: np.save(file, starts))
        shard = Shard(name, len(starts), self._tokens, self._bytes, sha256(stream), sha256(docs))
        self.number += 1
        self._held, self._starts, self._tokens, self._bytes = [], [], 0, 0
        return shard
