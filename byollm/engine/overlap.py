"""The next step is launched before the tokens of the one before it are read.

A GPU would otherwise wait while the host reads tokens, turns them into text and prepares the next step. The
tokens it has chosen are fed to it where they are; the host learns of them while the next step is computed.
Until then each stands as UNREAD in its sequence, whose blocks nobody may take: the engine reads the tokens
first where a sequence might be preempted, and where a draft is likely to pay, for that has to follow them. A
sequence that turns out to have ended has a row too many in the step launched since; what that row gives is
dropped, and what it wrote went to blocks that were still its own: work that is launched later, by whoever
holds them next, comes after it on the device.
"""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from byollm.engine.request import UNREAD
from byollm.engine.runner import Runner
from byollm.engine.sampler import Sample
from byollm.engine.scheduler import Chunk, Scheduler
from byollm.engine.step import NO_NUMBER, Run, compute

logger = logging.getLogger(__name__)


class Launched(Protocol):
    """The tokens of a step that was launched."""

    def collect(self) -> list[int]:
        """Wait for them; one for each chunk that wants one, in order, -1 where its logits are not numbers."""


@runtime_checkable
class Launcher(Protocol):
    """A runner that can launch a step without waiting for it."""

    def submit(self, chunks: Sequence[Chunk]) -> Launched:
        """Launch chunks and the choice of their tokens, all for plain sequences.

        Where a chunk ends with UNREAD, that is the token chosen for its sequence by the submission before.
        """


class _Flight(NamedTuple):
    """A step that was launched."""

    chunks: Sequence[Chunk]
    launched: Launched


class Overlap:
    """Keeps one step under way; none where the runner cannot, or where choosing a token needs the host.

    Args:
        runner: what computes.
        scheduler: whose chunks are computed.
    """

    def __init__(self, runner: Runner[Any], scheduler: Scheduler) -> None:
        self._runner = runner
        # Found out once: to ask it of a protocol took a third of the time that Python spends on a step.
        self._launcher = runner if isinstance(runner, Launcher) else None
        self._scheduler = scheduler
        self._now: _Flight | None = None
        self._next: _Flight | None = None

    @property
    def chunks(self) -> Sequence[Chunk]:
        """What is under way."""
        return () if self._now is None else self._now.chunks

    def launch(self, chunks: Sequence[Chunk]) -> None:
        """Launch the chunks of the step after the one under way, if that can be done before it is read."""
        if self._launcher is None or not chunks:
            return
        if not all(chunk.request.plain and not chunk.draft for chunk in chunks if chunk.rows):
            return
        try:
            self._next = _Flight(chunks, self._launcher.submit(chunks))
        except Exception:  # when the tokens are read, the guilty are found
            logger.exception("a step of %d sequences could not be launched", len(chunks))

    def land(self) -> list[Run]:
        """Wait for the step under way, if there is one, and return what was computed for those still here."""
        flight, self._now = self._now, None
        if flight is None:
            return []
        for chunk in flight.chunks:
            if chunk.rows and chunk.request.tokens[-1] == UNREAD:
                chunk.request.tokens.pop()
        try:
            tokens = iter(flight.launched.collect())
        except Exception:
            logger.exception("a step of %d sequences failed; it is computed again", len(flight.chunks))
            self._next = None  # it was fed from this one
            return compute(self._runner, self._scheduler, _present(flight.chunks))
        runs = []
        for chunk in flight.chunks:
            token = next(tokens) if chunk.rows else None
            if chunk.request.blocks:
                result = None if token is None else NO_NUMBER if token < 0 else Sample(token, None)
                runs.append(Run(chunk, result))
        return runs

    def follow(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Let the step that was launched be the one under way; return the chunks that are yet to compute.

        Args:
            chunks: those given to `launch`; the step before them has been read.
        """
        self._now, self._next = self._next, None
        present = _present(chunks)
        if self._now is None:
            return present
        for chunk in present:
            chunk.request.computed = chunk.end
            if chunk.rows:
                chunk.request.tokens.append(UNREAD)
        return []


def _present(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those whose sequences have neither ended nor failed."""
    return [chunk for chunk in chunks if chunk.request.blocks]
