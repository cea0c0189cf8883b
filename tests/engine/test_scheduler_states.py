"""The scheduler under arbitrary sequences of arrivals, steps, endings and aborts."""

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
from byollm.engine.scheduler import Scheduler
from tests.engine.support import make_request


class SchedulerMachine(RuleBasedStateMachine):
    """Adds, aborts and steps; a sequence ends when it has all its tokens."""

    requests = Bundle("requests")

    @initialize(blocks=st.integers(1, 12), max_running=st.integers(1, 5), spare=st.integers(0, 6))
    def build(self, blocks: int, max_running: int, spare: int) -> None:
        self.scheduler = Scheduler(BlockPool(blocks, 4), max_running, max_running + spare)
        self.arrived: list[Request] = []  # unfinished, oldest first

    @rule(target=requests, prompt=st.integers(1, 60), max_tokens=st.integers(1, 40))
    def add(self, prompt: int, max_tokens: int) -> Request | None:
        capacity = self.scheduler.pool.num_blocks * 4
        prompt = min(prompt, capacity)
        max_tokens = min(max_tokens, capacity + 1 - prompt)  # what admission control sees to
        request = make_request(str(len(self.arrived)), prompt, max_tokens)
        self.scheduler.add(request)
        self.arrived.append(request)
        return request

    @rule(request=consumes(requests))
    def abort(self, request: Request) -> None:
        if request in self.arrived:
            held = len(request.blocks)
            free = self.scheduler.pool.num_free
            self.scheduler.remove(request)
            self.arrived.remove(request)
            assert self.scheduler.pool.num_free == free + held

    @rule()
    def step(self) -> None:
        oldest = self.arrived[0] if self.arrived else None
        before = (oldest.computed, len(oldest.tokens)) if oldest else None
        running = list(self.scheduler.running)
        chunks = self.scheduler.schedule()
        self.scheduler.check_invariants()
        preempted = [request for request in running if request not in self.scheduler.running]
        assert preempted == running[len(running) - len(preempted) :]  # the youngest
        assert sum(chunk.end - chunk.start for chunk in chunks) <= self.scheduler.max_batch_tokens
        assert len({id(chunk.request) for chunk in chunks}) == len(chunks)
        sizes = [chunk.end - chunk.start for chunk in chunks]
        scheduled = [chunk.request for chunk in chunks]
        for request in self.scheduler.running:  # nobody who decodes is left out
            assert request.remaining != 1 or request in scheduled or request.completion_tokens == 0
        assert all(size >= 1 for size in sizes)
        for chunk in chunks:
            request = chunk.request
            assert chunk.start == request.computed
            assert len(request.blocks) * 4 >= chunk.end
            samples = chunk.samples
            request.computed = chunk.end
            if samples:
                request.append(0)
                if request.completion_tokens == request.max_tokens:
                    self.scheduler.remove(request)
                    self.arrived.remove(request)
        if oldest is not None and oldest in self.arrived:
            assert (oldest.computed, len(oldest.tokens)) > before, "the oldest made no progress"

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
        if hasattr(self, "scheduler"):
            self.scheduler.check_invariants()
            order = [*self.scheduler.running, *self.scheduler.waiting]
            assert order == self.arrived  # first come, first served, preempted or not


TestSchedulerStates = SchedulerMachine.TestCase
TestSchedulerStates.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
