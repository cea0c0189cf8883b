"""How far each answer has come in its grammar, and which tokens may follow."""

import logging
import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TYPE_CHECKING

from byollm.engine.grammar import CompiledGrammar

if TYPE_CHECKING:
    import xgrammar
    from torch import Tensor

logger = logging.getLogger(__name__)

PATIENCE_S = 1.0  # processor time for which one step waits for a mask; on a busy machine that takes longer
CREDIT_S = 0.5  # processor time that a sequence may take for masks,
CREDIT_PER_TOKEN_S = 0.01  # and so much more for each token: some grammars grow ever slower

TOO_SLOW = "the grammar is too ambiguous to be followed in time: simplify it"
IMPOSSIBLE = "the grammar asks for what this model's vocabulary cannot write"


class GrammarState:
    """The place of one sequence in its grammar. Its first mask is being worked out from the beginning.

    Args:
        grammar: what to follow.
        worker: where masks are worked out.
    """

    def __init__(self, grammar: CompiledGrammar, worker: "GrammarWorker") -> None:
        self.mask: Tensor | None = None
        """(1, vocab / 32) int32, a bit for each token that may follow; None: any may."""
        self.failure: str | None = None
        """Why this sequence cannot go on."""
        self._grammar = grammar
        self._worker = worker
        self._matcher: xgrammar.GrammarMatcher | None = None
        self._tokens = 0
        self._cpu_s = 0.0
        self._ready = threading.Event()
        worker.submit(self, None)

    def advance(self, token_id: int) -> None:
        """Take in the next token of the sequence; the mask after it comes in time for `settle`."""
        self._tokens += 1
        self._ready.clear()
        self._worker.submit(self, token_id)

    def settle(self) -> None:
        """Wait for the mask; afterwards `mask` or `failure` says how to go on."""
        began = time.process_time()
        while self.failure is None and not self._ready.wait(PATIENCE_S / 4):
            if time.process_time() - began > PATIENCE_S:
                self._worker.unstick()
                began = time.process_time()

    def work(self, token_id: int | None) -> None:
        """Take in a token and work out the mask; in the worker's thread."""
        started = time.thread_time()
        try:
            self._follow(token_id)
        except Exception:
            logger.exception("a grammar cannot be followed")
            self.failure = IMPOSSIBLE
        self._cpu_s += time.thread_time() - started
        if self._cpu_s > CREDIT_S + CREDIT_PER_TOKEN_S * self._tokens:
            self.failure = TOO_SLOW
        self._ready.set()

    def _follow(self, token_id: int | None) -> None:
        import xgrammar

        if self._matcher is None:
            self._matcher = xgrammar.GrammarMatcher(self._grammar.handle)
        if token_id is not None and not self._matcher.accept_token(token_id):
            self.failure = IMPOSSIBLE
        elif not self._matcher.is_terminated():
            mask = xgrammar.allocate_token_bitmask(1, self._grammar.vocab_size)
            self.mask = mask if self._matcher.fill_next_token_bitmask(mask) else None
            if self.mask is not None and not self.mask.any():
                self.failure = IMPOSSIBLE


class GrammarWorker:
    """Works out masks in a thread while the engine's computes the next logits; xgrammar lets both run.

    A thread that is stuck in a mask cannot be stopped. Its sequence fails, and another thread does the rest.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[GrammarState, int | None]] = SimpleQueue()
        self._thread: _WorkerThread | None = None

    def submit(self, state: GrammarState, token_id: int | None) -> None:
        """Have `state` take in a token and work out its mask."""
        self._tasks.put((state, token_id))
        if self._thread is None:
            self._thread = _WorkerThread(self._tasks)

    def unstick(self) -> None:
        """Give up the mask that is being worked out, if there is one."""
        if self._thread is not None and (stuck := self._thread.current) is not None:
            stuck.failure = TOO_SLOW
            self._thread.abandoned = True
            self._thread = _WorkerThread(self._tasks)


class _WorkerThread(threading.Thread):
    def __init__(self, tasks: "SimpleQueue[tuple[GrammarState, int | None]]") -> None:
        super().__init__(name="byollm-grammar", daemon=True)
        self.current: GrammarState | None = None
        self.abandoned = False
        self._tasks = tasks
        self.start()

    def run(self) -> None:
        while not self.abandoned:
            self.current, token_id = self._tasks.get()
            self.current.work(token_id)
            self.current = None


def apply_masks(logits: "Tensor", states: Sequence[GrammarState | None]) -> None:
    """Set the logits of tokens that may not follow to minus infinity.

    Args:
        logits: (rows, vocab) float32; changed in place. The rows of states that fail stay as they are.
        states: of each row, None where anything may follow.
    """
    import torch
    import xgrammar

    for state in states:
        if state is not None:
            state.settle()
    rows = [row for row, state in enumerate(states) if _mask(state) is not None]
    if not rows:
        return
    masks = torch.full((len(states), (logits.shape[-1] + 31) // 32), -1, dtype=torch.int32)
    for row in rows:
        if (mask := _mask(states[row])) is not None:
            masks[row] = mask[0]
    xgrammar.apply_token_bitmask_inplace(logits, masks.to(logits.device), indices=rows)


def _mask(state: GrammarState | None) -> "Tensor | None":
    return None if state is None or state.failure is not None else state.mask
