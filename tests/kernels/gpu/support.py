"""What the tests of kernels share."""

from collections.abc import Callable

from hypothesis import Phase, settings
from torch import Tensor

Draw = Callable[..., Tensor]
"""(*shape, seed=0) -> normal numbers, in the type and on the device that are tried"""
Close = Callable[[Tensor, Tensor], None]
"""(what was computed, what its definition gives in float32): within what the type of the first can tell"""

# Explaining a failure traces every line, which makes Triton's interpreter many times slower.
FEW = settings(
    max_examples=8, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
)
