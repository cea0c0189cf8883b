"""Chooses tokens through the C++ kernels: as `sampler.choose_with_torch` does, without its many calls."""

import ctypes
import math
from array import array
from collections.abc import Sequence

from torch import Tensor

from byollm.engine.request import Request
from byollm.engine.uniform import uniforms
from byollm.kernels.cpu import Choice
from byollm.kernels.cpu.library import check


def choose(
    library: ctypes.CDLL, logits: Tensor, requests: Sequence[Request], positions: Sequence[int]
) -> list[int]:
    """Return each row's token, -1 where its logits are not numbers.

    Args:
        library: the compiled kernels.
        logits: (rows, vocab) float32 on the CPU, contiguous.
        requests: the sequence of each row.
        positions: where in its sequence the token is to stand.
    """
    rows, vocab = logits.shape
    choices = (Choice * rows)(*map(_choice, requests, positions))
    tokens, best = array("i", bytes(4 * rows)), array("f", bytes(4 * rows))
    check(
        library,
        library.byollm_choose(
            logits.data_ptr(), rows, vocab, choices, tokens.buffer_info()[0], best.buffer_info()[0]
        ),
    )
    return [token if math.isfinite(most) else -1 for token, most in zip(tokens, best, strict=True)]


def _choice(request: Request, position: int) -> Choice:
    params = request.params
    if params.greedy:
        return Choice()
    numbers = uniforms(request.seed, position)
    return Choice(numbers, params.temperature, params.top_p, params.min_p, max(0, params.top_k))
