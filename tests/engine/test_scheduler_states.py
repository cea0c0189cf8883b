"""The scheduler under arbitrary sequences of arrivals, steps, endings, failures and aborts.

Beside it runs a model of the cache: what was last written to each slot. A sequence may count as computed only
what the cache really holds for it, whoever wrote it and whatever was guessed in between.
"""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from byollm.engine.block_pool import BlockPool
from byollm.engine.request import Request
from byollm.engine.scheduler import Chunk, Scheduler
from tests.engine.support import make_request

SIZE = 4


def contents(request: Request, draft: tuple[int, ...] = ()) -> list[object]:
    """What each slot of a sequence has to hold: it depends on the salt and on all tokens up to its own."""
    slots: list[object] = []
    for token in (*request.tokens, *draft):
        slots.append(hash((slots[-1] if slots else request.salt, token)))
    return slots


class SchedulerMachine(RuleBasedStateMachine):
    """Adds, aborts and steps; a sequence ends when it has all its tokens."""

    requests = Bundle("requests")

    @initialize(
        blocks=st.integers(1, 12),
        max_running=st.integers(1, 5),
        spare=st.integers(0, 6),
        prefix_caching=st.booleans(),
    )
    def build(self, blocks: int, max_running: int, spare: int, prefix_caching: bool) -> None:
        pool = BlockPool(blocks, SIZE)
        self.scheduler = Scheduler(pool, max_running, max_running + spare, prefix_caching)
        self.arrived: list[Request] = []  # unfinished, oldest first
        self.slots: dict[tuple[int, int], object] = {}  # by block and offset

    @rule(
        target=requests,
        prompt=st.integers(1, 60),
        turn=st.integers(0, 60),
        kind=st.integers(0, 1),
        salt=st.sampled_from(["", "", "tenant"]),
        max_tokens=st.integers(1, 40),
    )
    def add(self, prompt: int, turn: int, kind: int, salt: str, max_tokens: int) -> Request | None:
        """Prompts are 0 0 0 ... 1 1 1 or 1 1 1 ..., so many begin alike; answers are all 0."""
        capacity = self.scheduler.pool.num_blocks * SIZE
        prompt = min(prompt, capacity)
        max_tokens = min(max_tokens, capacity + 1 - prompt)  # what admission control sees to
        tokens = [kind if position < turn else 1 for position in range(prompt)]
        request = make_request(str(len(self.arrived)), tokens, max_tokens)
        request.salt = salt
        self.scheduler.add(request)
        self.arrived.append(request)
        return request

    @rule(request=consumes(requests))
    def abort(self, request: Request) -> None:
        if request in self.arrived:
            self._end(request, self.scheduler.remove)

    def _end(self, request: Request, way: object) -> None:
        others = {block for other in self.arrived if other is not request for block in other.blocks}
        own = set(request.blocks) - others
        free = self.scheduler.pool.num_free
        freed = way(request)  # type: ignore[operator]
        self.arrived.remove(request)
        assert self.scheduler.pool.num_free == free + len(own)
        assert freed is None or set(freed) == own

    @rule(fails=st.integers(0, 30), drafts=st.lists(st.lists(st.integers(0, 1), max_size=9), max_size=4))
    def step(self, fails: int = 30, drafts: list[list[int]] | None = None) -> None:
        """All answers are 0, so a draft is right up to its first 1."""
        oldest = self.arrived[0] if self.arrived else None
        before = (oldest.computed, len(oldest.tokens)) if oldest else None
        running = list(self.scheduler.running)
        decoding = [request for request in running if request.remaining == 1]
        chunks = self.scheduler.schedule(
            {
                request: draft[: request.max_tokens - request.completion_tokens - 1]
                for request, draft in zip(decoding, drafts or [], strict=False)
            }
        )
        self.scheduler.pool.check_invariants([request.blocks for request in self.scheduler.running])
        preempted = [request for request in running if request not in self.scheduler.running]
        assert preempted == running[len(running) - len(preempted) :]  # the youngest
        assert sum(chunk.end - chunk.start for chunk in chunks) <= self.scheduler.max_batch_tokens
        assert len({id(chunk.request) for chunk in chunks}) == len(chunks)
        scheduled = [chunk.request for chunk in chunks]
        for request in self.scheduler.running:  # nobody who decodes is left out
            assert request.remaining != 1 or request in scheduled or request.completion_tokens == 0
        for chunk in chunks:
            self._write(chunk)
        for number, chunk in enumerate(chunks):
            self._finish(chunk, number == fails)
        if oldest is not None and oldest in self.arrived:
            assert (oldest.computed, len(oldest.tokens)) > before, "the oldest made no progress"

    def _write(self, chunk: Chunk) -> None:
        request = chunk.request
        assert chunk.start == request.computed < chunk.end
        assert len(request.blocks) * SIZE >= chunk.end
        expected = contents(request, chunk.draft)
        assert len(expected) == chunk.end or not chunk.rows
        written = set(range(chunk.start // SIZE, -(-chunk.end // SIZE)))
        for other in self.scheduler.running:  # nobody writes to what another holds
            assert other is request or not {request.blocks[index] for index in written} & set(other.blocks)
        for position in range(chunk.start, chunk.end):
            self.slots[request.blocks[position // SIZE], position % SIZE] = expected[position]

    def _finish(self, chunk: Chunk, fails: bool) -> None:
        request = chunk.request
        if fails:
            blocks = list(request.blocks)
            keys = list(request.keys)
            self._end(request, self.scheduler.discard)
            assert not set(self.scheduler.pool.find(keys)) & set(blocks)
            return
        if not chunk.rows:
            request.computed = chunk.end
            return
        for guess in (*chunk.draft, None):
            request.computed = len(request.tokens)
            self.scheduler.publish(request)
            request.append(0)
            if request.completion_tokens == request.max_tokens:
                self._end(request, self.scheduler.remove)
                return
            if guess != 0:
                break
        self.scheduler.trim(request)

    @precondition(lambda self: getattr(self, "arrived", None))
    @rule()
    def run_dry(self) -> None:
        """Everything that is in ends in finite time."""
        bound = sum(len(r.tokens) + r.max_tokens for r in self.arrived) * 3 + 10
        steps = 0
        while self.arrived:
            self.step()
            self.scheduler.check_invariants()
            steps += 1
            assert steps <= bound * len(self.scheduler.running or [1]) + bound
        assert self.scheduler.pool.num_free == self.scheduler.pool.num_blocks

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check_invariants()
        order = [*self.scheduler.running, *self.scheduler.waiting]
        assert order == self.arrived  # first come, first served, preempted or not
        for request in self.scheduler.running:
            expected = contents(request)
            for position in range(request.computed):
                slot = request.blocks[position // SIZE], position % SIZE
                assert self.slots[slot] == expected[position], "the cache holds something else"


TestSchedulerStates = SchedulerMachine.TestCase
TestSchedulerStates.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
