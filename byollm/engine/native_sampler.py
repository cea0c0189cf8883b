"""Chooses tokens through the C++ kernels: as `sampler.choose_with_torch` does, without its many calls."""

import ctypes
from array import array
from collections.abc import Sequence

from torch import Tensor

from byollm.engine.request import Request
from byollm.kernels.cpu import Choice
from byollm.kernels.cpu.library import check

MANY = (1 << 31) - 1  # more tokens than any vocabulary has


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
    choices = b"".join([request.choice or _choice(request) for request in requests])
    places, tokens = array("i", positions), array("i", bytes(4 * rows))
    at = places.buffer_info()[0], tokens.buffer_info()[0]
    check(library, library.byollm_choose(logits.data_ptr(), rows, vocab, choices, *at))
    return tokens.tolist()


def _choice(request: Request) -> bytes:
    params = request.params
    choice = Choice(
        request.seed & (1 << 64) - 1, params.temperature, params.top_p, params.min_p, min(params.top_k, MANY)
    )
    request.choice = bytes(choice)
    return request.choice
