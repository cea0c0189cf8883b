"""Which tokens of which sequences the next step computes. Knows nothing of tensors."""

from collections import OrderedDict
from typing import NamedTuple

from byollm.engine.block_pool import BlockPool
from byollm.engine.request import Request


class Chunk(NamedTuple):
    """Tokens `start` to `end` of a sequence, to be computed in one step."""

    request: Request
    start: int
    end: int

    @property
    def samples(self) -> bool:
        """Whether the chunk reaches the last known token, so that the next one can be chosen."""
        return self.end == len(self.request.tokens)


class Scheduler:
    """First come, first served, with one budget of tokens a step.

    Decoding sequences come first and take one token each; prompts fill the rest of the budget in chunks. A
    sequence is admitted when blocks for all its known tokens are free, and one to spare for each running
    sequence, so that admitting it does not at once preempt somebody. Only decoding can therefore run out of
    blocks: then the youngest running sequence is preempted. It gives its blocks back, goes to the head of the
    queue, and is later computed anew from its prompt and the tokens it already has. The oldest sequence is
    never preempted by another, so every step makes progress as long as each sequence fits into the pool
    alone, which is for admission to see to.

    Args:
        pool: the cache blocks.
        max_running: most sequences that hold blocks.
        max_batch_tokens: the budget; at least `max_running`.
    """

    def __init__(self, pool: BlockPool, max_running: int, max_batch_tokens: int) -> None:
        self.pool = pool
        self.max_running = max_running
        self.max_batch_tokens = max_batch_tokens
        self.running: list[Request] = []  # oldest first
        self.waiting: OrderedDict[Request, None] = (
            OrderedDict()
        )  # oldest first; a dict because any may be aborted
        self.preemptions = 0

    def add(self, request: Request) -> None:
        """Put a sequence at the end of the queue."""
        self.waiting[request] = None

    def remove(self, request: Request) -> None:
        """Forget a sequence, finished or aborted, and free its blocks."""
        if request in self.waiting:
            del self.waiting[request]
        else:
            self.running.remove(request)
            self._release(request)

    def schedule(self) -> list[Chunk]:
        """Return the chunks of the next step, decoding ones first; blocks for all of them are allocated."""
        preemptions = self.preemptions
        chunks = self._decodes()
        budget = self.max_batch_tokens - len(chunks)
        for request in self.running:
            if budget > 0 and request.remaining > 1:
                budget -= self._take(request, budget, chunks)
        if self.preemptions == preemptions:
            self._admit(budget, chunks)
        return chunks

    def _decodes(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        index = 0
        while index < len(self.running):  # the list shrinks from its end when somebody is preempted
            request = self.running[index]
            if request.remaining == 1 and self._grow(request):
                chunks.append(Chunk(request, request.computed, len(request.tokens)))
            index += 1
        return chunks

    def _grow(self, request: Request) -> bool:
        """Give a decoding sequence the block that its next token needs; False if it had to be preempted."""
        missing = self.pool.blocks_for(len(request.tokens)) - len(request.blocks)
        while missing > self.pool.num_free:
            victim = self.running.pop()
            self._release(victim)
            self.waiting[victim] = None
            self.waiting.move_to_end(victim, last=False)
            self.preemptions += 1
            if victim is request:
                return False
        if missing > 0:
            request.blocks += self.pool.allocate(missing)
        return True

    def _admit(self, budget: int, chunks: list[Chunk]) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.max_running:
            request = next(iter(self.waiting))
            needed = self.pool.blocks_for(len(request.tokens))
            if needed + len(self.running) > self.pool.num_free:
                return
            del self.waiting[request]
            self.running.append(request)
            request.blocks = self.pool.allocate(needed)
            budget -= self._take(request, budget, chunks)

    @staticmethod
    def _take(request: Request, budget: int, chunks: list[Chunk]) -> int:
        count = min(request.remaining, budget)
        chunks.append(Chunk(request, request.computed, request.computed + count))
        return count

    def _release(self, request: Request) -> None:
        self.pool.free(request.blocks)
        request.blocks = []
        request.computed = 0

    def check_invariants(self) -> None:
        """Assert what must hold between any two calls."""
        self.pool.check_invariants([request.blocks for request in self.running])
        assert len(self.running) <= self.max_running
        assert len(set(self.running)) == len(self.running)
        assert not set(self.running) & set(self.waiting)
        for request in self.waiting:
            assert not request.blocks
            assert request.computed == 0
        for request in self.running:
            assert 0 <= request.computed <= len(request.tokens)
            assert self.pool.blocks_for(request.computed) <= len(request.blocks)
            assert len(request.blocks) <= self.pool.blocks_for(len(request.tokens))
