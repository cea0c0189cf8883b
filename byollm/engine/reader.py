"""Reads texts without answering them: the log-probabilities of their tokens, and their embeddings.

A text that is only read goes through the model beside the engine's steps, in a cache of its own, and in parts
of about a step's size, so that answers under way hardly wait for it: the generators here yield after each.
"""

from collections.abc import Generator, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F

from byollm.engine.adapters import BASE
from byollm.engine.errors import NOT_FINITE, EngineError
from byollm.engine.kv_cache import BLOCK_SIZE
from byollm.engine.outputs import TokenLogprobs
from byollm.engine.pieces import Piece
from byollm.engine.runner import Cache, Runner
from byollm.engine.sampler import report_logprobs

T = TypeVar("T")
C = TypeVar("C", bound=Cache)

Gradual = Generator[None, None, T]
"""Yields after each part of the work, and returns what came of all."""


def score(
    runner: Runner[C], tokens: Sequence[int], top: int, chunk: int, slot: int = BASE
) -> Gradual[list[TokenLogprobs]]:
    """Find how probable each token of a text is after those before it.

    Args:
        runner: computes.
        tokens: the text.
        top: how many of the most probable tokens to report at each place.
        chunk: most tokens to compute at once.
        slot: of the adapter to read with.

    Returns:
        One entry a token, from the second on; the first comes after nothing.

    Raises:
        EngineError: the model gave numbers that are not finite.
    """
    logprobs: list[TokenLogprobs] = []
    read = tokens[:-1]  # nothing comes after the last
    cache, (blocks,) = _room(runner, [read])
    for start in range(0, len(read), chunk):
        piece = Piece(read[start : start + chunk], start, blocks, slot)
        logits = runner.read_logits([piece], cache)
        if not logits.amax(-1).isfinite().all():
            raise EngineError(NOT_FINITE)
        following = list(tokens[start + 1 : piece.end + 1])
        logprobs += report_logprobs(logits.log_softmax(-1), following, [top] * len(following))
        yield
    return logprobs


def embed(
    runner: Runner[C], texts: Sequence[Sequence[int]], chunk: int, slot: int = BASE
) -> Gradual[list[bytes]]:
    """Average the final hidden states of each text, scaled to length 1.

    Args:
        runner: computes.
        texts: token ids, at least one a text.
        chunk: most tokens to compute at once; short texts go together.
        slot: of the adapter to read with.

    Returns:
        For each text `hidden_size` little-endian float32 numbers.

    Raises:
        EngineError: the model gave numbers that are not finite, or too large to be scaled.
    """
    vectors: list[bytes] = []
    for group in groups(texts, chunk):
        cache, places = _room(runner, group)
        totals = torch.zeros(len(group), runner.config.hidden_size, device=runner.device)
        for start in range(0, max(map(len, group)), chunk):  # more than once only for a text alone
            pieces = [
                Piece(text[start : start + chunk], start, blocks, slot)
                for text, blocks in zip(group, places, strict=True)
            ]
            hidden = runner.read_hidden(pieces, cache)
            parts = torch.split(hidden, [len(piece.tokens) for piece in pieces])
            totals += torch.stack([part.sum(0) for part in parts])
            yield
        if not torch.linalg.vector_norm(totals, dim=-1).isfinite().all():
            raise EngineError(NOT_FINITE)
        vectors += [row.tobytes() for row in F.normalize(totals, dim=-1).cpu().numpy().astype("<f4")]
    return vectors


def groups(texts: Sequence[Sequence[int]], budget: int) -> list[list[Sequence[int]]]:
    """Put neighbouring texts into groups of at most `budget` tokens; a longer text is a group of its own."""
    grouped: list[list[Sequence[int]]] = []
    room = 0
    for text in texts:
        room -= len(text)
        if not grouped or room < 0:
            grouped.append([])
            room = budget - len(text)
        grouped[-1].append(text)
    return grouped


def _room(runner: Runner[C], texts: Sequence[Sequence[int]]) -> tuple[C, list[range]]:
    """Return a cache for some texts, and the blocks of each."""
    places: list[range] = []
    end = 0
    for text in texts:
        places.append(range(end, end - (-len(text) // BLOCK_SIZE)))
        end = places[-1].stop
    return runner.new_cache(end), places
