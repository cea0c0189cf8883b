"""All sources as one stream of documents worth keeping, each once, with every loss counted."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from byollm.data.documents import Rejected, documents
from byollm.data.files import Advance
from byollm.data.quality import Identity, fault, identity, normal
from byollm.data.records import excerpt
from byollm.settings.data import DataSettings

EXCERPT = 500  # a web-sized corpus sets millions aside; the place tells where the rest is


@dataclass
class Tally:
    """What became of one source's documents."""

    read: int = 0
    kept: int = 0
    kept_bytes: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as the manifest lists them."""
        return {
            "read": self.read,
            "kept": self.kept,
            "kept_bytes": self.kept_bytes,
            "duplicates": self.duplicates,
            "rejected": dict(sorted(self.rejected.items())),
        }


@dataclass(frozen=True)
class Kept:
    """A document worth training on."""

    text: str
    bytes: int
    identity: Identity


def kept_documents(
    paths: Sequence[Path],
    settings: DataSettings,
    advance: Advance,
    reject: Callable[[Rejected], None],
    tallies: list[Tally],
) -> Iterator[Kept]:
    """Yield what is worth keeping, in the order of the sources; append a tally a source to `tallies`.

    Of documents that differ only in case and white space the first is kept. `reject` is told of all that is
    set aside, except duplicates, which are counted only. Memory: about 100 bytes a document, to know them.
    """
    seen = set[bytes]()
    for path, source in zip(paths, settings.sources, strict=True):
        tally = Tally()
        tallies.append(tally)
        for item in documents(path, source, settings, advance):
            if isinstance(item, Rejected):
                tally.rejected[item.reason] += 1
                reject(item)
                continue
            tally.read += 1
            if (reason := fault(item.text, settings)) is not None:
                tally.rejected[reason] += 1
                reject(Rejected(item.member, item.number, reason, "", excerpt(item.text, EXCERPT)))
                continue
            known = identity(normal(item.text), settings.seed)
            if known.key in seen:
                tally.duplicates += 1
                continue
            seen.add(known.key)
            size = len(item.text.encode())
            tally.kept += 1
            tally.kept_bytes += size
            yield Kept(item.text, size, known)
