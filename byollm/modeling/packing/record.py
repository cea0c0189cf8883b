"""What is known of a packed model: where it comes from, how large it is, what it lost."""

import json
from dataclasses import dataclass, fields
from typing import Self

from byollm.modeling.errors import CheckpointError
from byollm.modeling.packing.source import Source, read_bytes
from byollm.modeling.packing.workspace import RECORD


@dataclass(frozen=True)
class Quality:
    """How well the float model and the packed one predict the same text."""

    bits_per_byte_before: float
    bits_per_byte_after: float
    perplexity_before: float
    perplexity_after: float
    tokens: int

    @property
    def change(self) -> float:
        """By how much more bits a byte takes than before; 0.01: one percent."""
        return self.bits_per_byte_after / self.bits_per_byte_before - 1


@dataclass(frozen=True)
class Record:
    """A packed model in figures."""

    source: str
    family: str
    scheme: str
    group: int
    calibrated: bool
    parameters: int
    bytes_before: int
    bytes_after: int
    quality: Quality | None = None

    @classmethod
    def read(cls, place: Source) -> Self:
        """Read the record of a packed model.

        Raises:
            CheckpointError: it is damaged.
        """
        try:
            said = json.loads(read_bytes(place, RECORD))
            known = {field.name: said[field.name] for field in fields(cls)}
            known["quality"] = None if known["quality"] is None else Quality(**known["quality"])
            return cls(**known)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{place.name}: {RECORD} is damaged ({error!r}); copy it afresh") from None

    @property
    def bits_per_weight(self) -> float:
        """Bits that a parameter takes on average, scales, norms and biases counted in."""
        return 8 * self.bytes_after / self.parameters

    @property
    def saved(self) -> float:
        """The share of the bytes that is saved."""
        return 1 - self.bytes_after / self.bytes_before
