"""Computes the chunks of one step, so that what fails takes nobody along."""

import logging
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from torch import Tensor

from byollm.engine.errors import NOT_FINITE
from byollm.engine.kv_cache import BLOCK_SIZE
from byollm.engine.request import Request
from byollm.engine.runner import Runner
from byollm.engine.sampler import Sample, sample
from byollm.engine.scheduler import Chunk, Scheduler

logger = logging.getLogger(__name__)


class Failure(NamedTuple):
    """Why a request could not be computed, in words that may be shown to its caller.

    Attributes:
        reason: the words.
        blames: the sampling parameter that is at fault; None for a fault of the engine.
    """

    reason: str
    blames: str | None = None


NO_NUMBER = Failure(NOT_FINITE)


class Run(NamedTuple):
    """A chunk that was computed.

    Attributes:
        chunk: what was computed.
        result: the token after the last known one; None where the chunk does not reach it.
        ahead: logits (drafted, vocab) after each token of the draft, if there is one.
    """

    chunk: Chunk
    result: Sample | Failure | None
    ahead: Tensor | None = None


def compute(runner: Runner[Any], scheduler: Scheduler, chunks: Sequence[Chunk]) -> list[Run]:
    """Compute chunks, and choose the token after each that reaches its sequence's last known one.

    When a batch fails, its chunks are run one by one, so that only the guilty fail, and without drafts, which
    may be the guilty ones. Running a chunk twice is harmless: it writes the same cache entries.
    """
    if not chunks:
        return []
    try:
        logits = runner.run(chunks)
        sampling = [chunk for chunk in chunks if chunk.rows]
        first = logits
        if any(chunk.draft for chunk in sampling):
            ends = accumulate(chunk.rows for chunk in sampling)
            first = logits[[end - chunk.rows for end, chunk in zip(ends, sampling, strict=True)]]
        samples = iter(sample(first, [chunk.request for chunk in sampling]))
        runs, row = [], 0
        for chunk in chunks:
            row += chunk.rows
            result = next(samples) or _no_sample(chunk.request) if chunk.rows else None
            if not chunk.draft:
                runs.append(Run(chunk, result))
            elif isinstance(result, Failure):
                logits = logits.clone()  # the run that follows may overwrite them
                runs += compute(runner, scheduler, [_without_draft(runner, scheduler, chunk)])
            else:
                runs.append(Run(chunk, result, logits[row - len(chunk.draft) : row]))
        return runs
    except Exception as error:
        if len(chunks) == 1 and not chunks[0].draft:
            logger.exception("request %s failed", chunks[0].request.request_id)
            return [Run(chunks[0], failure_of(error))]
        logger.exception("a batch of %d failed; running its requests one by one", len(chunks))
        alone = [_without_draft(runner, scheduler, chunk) for chunk in chunks]
        return [run for chunk in alone for run in compute(runner, scheduler, [chunk])]


def _without_draft(runner: Runner[Any], scheduler: Scheduler, chunk: Chunk) -> Chunk:
    if not chunk.draft:
        return chunk
    wipe(runner, chunk.request)
    scheduler.trim(chunk.request)
    return Chunk(chunk.request, chunk.start, chunk.end - len(chunk.draft))


def wipe(runner: Runner[Any], request: Request) -> None:
    """Zero what the cache holds after the computed tokens of a sequence."""
    block, start = divmod(request.computed, BLOCK_SIZE)
    runner.cache.clear(request.blocks[block:], start)


def _no_sample(request: Request) -> Failure:
    if request.grammar is not None and request.grammar.failure is not None:
        return Failure(request.grammar.failure, "grammar")
    return NO_NUMBER


def failure_of(error: Exception) -> Failure:
    """Return what an exception may tell the caller."""
    # The exception's own words may name files of the server: they are for the log.
    return Failure(f"the engine failed on this request ({type(error).__name__}); its log has the details")
