"""What the tests of kernels share."""

from collections.abc import Callable

import torch
from hypothesis import Phase, settings
from torch import Tensor

Draw = Callable[..., Tensor]
"""(*shape, seed=0) -> normal numbers, in the type and on the device that are tried"""
Close = Callable[[Tensor, Tensor], None]
"""(what was computed, what its definition gives in float32): within what the type of the first can tell"""

PAGE = 16
# Explaining a failure traces every line, which makes Triton's interpreter many times slower.
FEW = settings(
    max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
)


def paged(draw: Draw, lengths: list[int], kv_heads: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random caches of keys and values, and tables of scattered blocks for sequences."""
    needed = [-(-length // PAGE) for length in lengths]
    blocks = sum(needed) + 2
    keys, values = (draw(blocks, kv_heads, PAGE, size, seed=seed) for seed in (5, 6))
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(sum(lengths))).int()
    tables = torch.zeros(len(lengths), max(*needed, 1), dtype=torch.int32)
    for row, (count, part) in enumerate(zip(needed, order[: sum(needed)].split(needed), strict=True)):
        tables[row, :count] = part
    return keys, values, tables.to(keys.device)
