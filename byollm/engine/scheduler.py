"""Which tokens of which sequences the next step computes. Knows nothing of tensors."""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from byollm.engine.adapters import BASE, AdapterSlots
from byollm.engine.block_pool import BlockPool
from byollm.engine.prefix import block_keys
from byollm.engine.request import Request


@dataclass(slots=True)
class Chunk:
    """Tokens `start` to `end` of a sequence, to be computed in one step.

    Attributes:
        request: the sequence.
        start: position of the first token.
        end: position after the last.
        draft: the last of the tokens, where they are not known but only guessed.
        rows: after how many of the tokens, the last ones, logits are wanted: the last known one, so that the
            next can be chosen, and those guessed. 0 where the chunk does not reach them.
    """

    request: Request
    start: int
    end: int
    draft: tuple[int, ...] = ()
    rows: int = 1

    @property
    def tokens(self) -> list[int]:
        """The tokens to compute, those guessed included."""
        known = self.request.tokens[self.start : self.end]
        return [*known, *self.draft] if self.draft else known

    @property
    def slot(self) -> int:
        """Where the adapter stands that they are computed with."""
        return self.request.slot


class Scheduler:
    """First come, first served, with one budget of tokens a step.

    Decoding sequences come first and take one token each; prompts fill the rest of the budget in chunks. A
    sequence is admitted when blocks for all its known tokens are free, and one to spare for each running
    sequence, so that admitting it does not at once preempt somebody. Only decoding can therefore run out of
    blocks: then the youngest running sequence is preempted. It gives its blocks back, goes to the head of the
    queue, and is later computed anew from its prompt and the tokens it already has. The oldest sequence is
    never preempted by another, so every step makes progress as long as each sequence fits into the pool
    alone, which is for admission to see to.

    Full blocks that a finished forward pass has filled are published. A sequence that begins with the same
    tokens holds them too instead of computing them, and one that would compute the same block in the same
    step as another waits for the next. The last known token is always computed, for the logits after it.

    Drafts get what blocks and budget the decoding sequences leave; nobody is preempted for one.

    A sequence with an adapter is admitted when that stands in a slot, or there is one that no running
    sequence holds. Others may overtake one that waits for a slot: those without an adapter, which cannot
    delay it, and of those whose adapter is there `max_running` at most: then slots fall free.

    Args:
        pool: the cache blocks.
        max_running: most sequences that hold blocks.
        max_batch_tokens: the budget; at least `max_running`.
        prefix_caching: whether blocks are published.
        adapter_slots: most adapters that the sequences of one step may have.
    """

    def __init__(
        self,
        pool: BlockPool,
        max_running: int,
        max_batch_tokens: int,
        prefix_caching: bool = True,
        adapter_slots: int = 0,
    ) -> None:
        self.pool = pool
        self.slots = AdapterSlots(adapter_slots)
        self.max_running = max_running
        self.max_batch_tokens = max_batch_tokens
        self.prefix_caching = prefix_caching
        self.running: list[Request] = []  # oldest first
        self.waiting: OrderedDict[Request, None] = (
            OrderedDict()
        )  # oldest first; a dict because any may be aborted
        self.preemptions = 0
        self.prefix_queries = 0  # tokens of the sequences admitted, each counted once
        self.prefix_hits = 0  # those of them that were found in the cache

    def add(self, request: Request) -> None:
        """Put a sequence at the end of the queue."""
        self.waiting[request] = None

    def remove(self, request: Request) -> None:
        """Forget a sequence, finished or aborted, and free its blocks."""
        if request in self.waiting:
            del self.waiting[request]
            self.slots.sequences_waiting &= bool(self.waiting)
        else:
            self.running.remove(request)
            self._release(request)

    def discard(self, request: Request) -> list[int]:
        """Forget a sequence whose numbers are not to be trusted; return its blocks that nobody else holds."""
        self.pool.forget(request.blocks)
        self.running.remove(request)
        return self._release(request)

    def publish(self, request: Request) -> None:
        """Let the full blocks of a sequence be found; for when its logits have proved its numbers finite."""
        full = request.computed // self.pool.block_size
        if self.prefix_caching and full > request.published:
            keys = block_keys(request, full, self.pool.block_size)
            for index in range(request.published, full):
                self.pool.publish(request.blocks[index], keys[index])
            request.published = full

    @property
    def roomy(self) -> bool:
        """Whether the next step can preempt nobody: a block is free for each running sequence."""
        return self.pool.num_free >= len(self.running)

    def schedule(
        self, drafts: Mapping[Request, list[int]] | None = None, under_way: Sequence[Chunk] = ()
    ) -> list[Chunk]:
        """Return the chunks of the next step, decoding ones first; blocks for all of them are allocated.

        Args:
            drafts: guesses of what some of the decoding sequences go on with.
            under_way: chunks that are being computed; those who need the same blocks wait for them.
        """
        preemptions = self.preemptions
        chunks = self._decodes()
        budget = self.max_batch_tokens - len(chunks)
        if drafts:
            for index, chunk in enumerate(chunks):
                chunks[index] = self._extend(chunk, drafts.get(chunk.request, [])[:budget])
                budget -= len(chunks[index].draft)
        if len(chunks) < len(self.running):
            for request in self.running:
                if budget > 0 and request.remaining > 1:
                    budget -= self._take(request, budget, chunks)
        if self.preemptions == preemptions:
            self._admit(budget, chunks, under_way)
        return chunks

    def _decodes(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        size = self.pool.block_size
        for request in self.running:  # the list shrinks from its end when somebody is preempted
            known = len(request.tokens)
            if request.computed != known - 1 or request.exhausted:
                continue
            if len(request.blocks) * size >= known or self._grow(request):
                chunks.append(Chunk(request, known - 1, known))
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

    def _extend(self, chunk: Chunk, draft: list[int]) -> Chunk:
        """Let a draft follow a decoding sequence, as much of it as there are blocks for."""
        request, size = chunk.request, self.pool.block_size
        draft = draft[: (len(request.blocks) + self.pool.num_free) * size - chunk.end]
        end = chunk.end + len(draft)
        missing = self.pool.blocks_for(end) - len(request.blocks)
        if missing > 0:
            request.blocks += self.pool.allocate(missing)
        return Chunk(request, chunk.start, end, tuple(draft), 1 + len(draft))

    def trim(self, request: Request) -> None:
        """Give back the blocks that only tokens guessed wrong needed."""
        used = self.pool.blocks_for(len(request.tokens))
        self.pool.free(request.blocks[used:])
        del request.blocks[used:]

    def _admit(self, budget: int, chunks: list[Chunk], under_way: Sequence[Chunk]) -> None:
        held_up: list[Request] = []  # those at the head of the queue that wait for a slot
        self.slots.sequences_waiting = False
        while budget > 0 and len(self.running) < self.max_running:
            request = next(islice(self.waiting, len(held_up), None), None)
            if request is None:
                return
            if not self._may_have_slot(request, held_up):
                held_up.append(request)
                self.slots.sequences_waiting = True
                if len(held_up) > self.max_running:  # a longer search would cost more than it finds
                    return
                continue
            found = self._find(request)
            missing = self.pool.blocks_for(len(request.tokens)) - len(found)
            if missing + self.pool.count_free(found) + len(self.running) > self.pool.num_free:
                return
            if self._under_way(request, len(found), [*chunks, *under_way]):
                return
            del self.waiting[request]
            self.running.append(request)
            self._take_slot(request, held_up)
            self.pool.hold(found)
            request.blocks = found + self.pool.allocate(missing)
            request.computed = len(found) * self.pool.block_size
            request.published = len(found)
            if request.cached is None:
                request.cached = request.computed
                self.prefix_queries += len(request.tokens)
                self.prefix_hits += request.computed
            budget -= self._take(request, budget, chunks)

    def _may_have_slot(self, request: Request, held_up: list[Request]) -> bool:
        if request.adapter is None:
            return True
        if self.slots.readers_waiting and self.slots.readers_turn:
            return False
        if held_up and held_up[0].overtaken >= self.max_running:
            return False
        return self.slots.available(request.adapter)

    def _take_slot(self, request: Request, held_up: list[Request]) -> None:
        if request.adapter is None:
            return
        slot = self.slots.acquire(request.adapter)
        assert slot is not None, "a slot was available, and is not"
        request.slot = slot
        self.slots.readers_turn = True
        if held_up:
            held_up[0].overtaken += 1

    def _find(self, request: Request) -> list[int]:
        if not self.prefix_caching:
            return []
        wanted = (len(request.tokens) - 1) // self.pool.block_size
        return self.pool.find(block_keys(request, wanted, self.pool.block_size)[:wanted])

    def _under_way(self, request: Request, index: int, chunks: list[Chunk]) -> bool:
        """Whether one of the chunks computes just what block number `index` of a sequence is to hold."""
        if index >= len(request.keys):
            return False
        end = (index + 1) * self.pool.block_size
        return any(
            chunk.start < end <= chunk.end
            and index < len(chunk.request.keys)
            and chunk.request.keys[index] == request.keys[index]
            for chunk in chunks
        )

    @staticmethod
    def _take(request: Request, budget: int, chunks: list[Chunk]) -> int:
        count = min(request.remaining, budget)
        end = request.computed + count
        chunks.append(Chunk(request, request.computed, end, rows=int(end == len(request.tokens))))
        return count

    def _release(self, request: Request) -> list[int]:
        if request.adapter is not None:
            self.slots.release(request.adapter)
            request.slot = BASE
        freed = self.pool.free(request.blocks)
        request.blocks = []
        request.computed = request.published = 0
        return freed

    def check_invariants(self) -> None:
        """Assert what must hold between any two calls."""
        self.pool.check_invariants([request.blocks for request in self.running])
        self.slots.check_invariants(Counter(r.adapter for r in self.running if r.adapter is not None))
        assert len(self.running) <= self.max_running
        assert len(set(self.running)) == len(self.running)
        assert not set(self.running) & set(self.waiting)
        for request in self.waiting:
            assert not request.blocks
            assert request.computed == request.published == 0
        for request in self.running:
            assert 0 <= request.computed <= len(request.tokens)
            assert self.pool.blocks_for(request.computed) <= len(request.blocks)
            assert len(request.blocks) <= self.pool.blocks_for(len(request.tokens))
            assert request.published <= request.computed // self.pool.block_size
