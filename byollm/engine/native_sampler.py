"""Chooses tokens through the C++ kernels: as `sampler.choose_with_torch` does, without its many calls."""

import ctypes
import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from byollm.engine.request import Request
from byollm.engine.uniform import uniforms
from byollm.kernels.cpu import Choice
from byollm.kernels.cpu.library import check


def choose(library: ctypes.CDLL, logits: Tensor, requests: Sequence[Request]) -> tuple[list[int], list[bool]]:
    """Return each row's token, and whether its logits are numbers.

    Args:
        library: the compiled kernels.
        logits: (requests, vocab) float32 on the CPU, contiguous.
        requests: the sequences.
    """
    rows, vocab = logits.shape
    choices = (Choice * rows)(*map(_choice, requests))
    tokens, best = np.empty(rows, dtype=np.int32), np.empty(rows, dtype=np.float32)
    check(
        library,
        library.byollm_choose(logits.data_ptr(), rows, vocab, choices, tokens.ctypes.data, best.ctypes.data),
    )
    return tokens.tolist(), [math.isfinite(value) for value in best.tolist()]


def _choice(request: Request) -> Choice:
    params = request.params
    if params.greedy:
        return Choice()
    numbers = uniforms(request.seed, len(request.tokens))
    return Choice(numbers, params.temperature, params.top_p, params.min_p, max(0, params.top_k))
