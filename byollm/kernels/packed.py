"""Weights packed into few bits: the format that every kernel reads.

A matrix (out, in) becomes integers of 4 or 8 bits and a scale for each group of weights in a row. NF4 is
bitsandbytes' format, number for number (Dettmers et al., 2023).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

NF4_GROUP = 64
NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""What the codes 0..15 of NF4 stand for, before the scale."""


@dataclass(frozen=True)
class Scheme:
    """How a weight is packed.

    `int4`: codes uint8 (out, ceil(in / 2)), two to a byte: the low nibble holds column 2i, the high one
    column 2i + 1, each as the integer -8..7 plus 8; where `in` is odd the last high nibble is 8.
    `int8`: codes int8 (out, in), -127..127.
    Both: scales bfloat16 (out, ceil(in / group)), which may be negative; weight = integer * scale; the last
    group of a row may be shorter.
    `nf4`: groups of 64 over the flattened weight, rows or not; codes uint8 (ceil(out * in / 2),), the first
    weight in the high nibble; scales float32 (ceil(out * in / 64),); weight = NF4_VALUES[code] * scale.

    Raises:
        ValueError: there is no such scheme.
    """

    kind: Literal["int8", "int4", "nf4"]
    group: int = 128
    """Weights that share a scale: a multiple of 32; 64 for nf4."""
    double: bool = False
    """For nf4: the scales are rounded as bitsandbytes' double quantisation rounds them. They are stored in
    float32 all the same, so that nothing has to be undone."""

    def __post_init__(self) -> None:
        if self.kind not in ("int8", "int4", "nf4"):
            raise ValueError(f"scheme {self.kind!r} is unknown; there is int8, int4 and nf4")
        if self.kind == "nf4" and self.group != NF4_GROUP:
            raise ValueError(f"group is {self.group}, but nf4 has groups of {NF4_GROUP}")
        if self.group < 32 or self.group % 32:
            raise ValueError(f"group is {self.group}, but must be a multiple of 32")
        if self.double and self.kind != "nf4":
            raise ValueError(f"double quantisation is for nf4, not for {self.kind}")

    @property
    def code_dtype(self) -> torch.dtype:
        """The type of the codes."""
        return torch.int8 if self.kind == "int8" else torch.uint8

    @property
    def scale_dtype(self) -> torch.dtype:
        """The type of the scales."""
        return torch.float32 if self.kind == "nf4" else torch.bfloat16

    def code_shape(self, shape: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of the codes of a weight (out, in)."""
        rows, columns = shape
        if self.kind == "nf4":
            return (-(-rows * columns // 2),)
        return rows, columns if self.kind == "int8" else -(-columns // 2)

    def scale_shape(self, shape: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of the scales of a weight (out, in)."""
        rows, columns = shape
        if self.kind == "nf4":
            return (-(-rows * columns // self.group),)
        return rows, -(-columns // self.group)

    def nbytes(self, shape: tuple[int, int]) -> int:
        """Return the bytes that a weight (out, in) takes."""
        codes, scales = torch.Size(self.code_shape(shape)), torch.Size(self.scale_shape(shape))
        return codes.numel() * self.code_dtype.itemsize + scales.numel() * self.scale_dtype.itemsize


class PackedWeight(NamedTuple):
    """A weight as its scheme packs it."""

    codes: Tensor
    scales: Tensor
    scheme: Scheme
    shape: tuple[int, int]  # (out, in)
