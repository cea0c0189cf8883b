"""The blocks of the KV cache: who holds them, and what is in them. Knows nothing of tensors."""

from collections import Counter
from collections.abc import Iterable, Sequence

from byollm.engine.errors import EngineError


class BlockPool:
    """Hands out ids of equal blocks of `block_size` cache slots, and finds those with known contents again.

    A block is held by one sequence or by several; held by none, it is free. Once its contents are final it
    may get a key, and is found under it until it is handed out for something else. Free blocks without a key
    go first: a stack, so the one freed last is taken while its memory is still warm in the CPU's cache. Then
    the others, the one freed longest ago first.

    Args:
        num_blocks: how many blocks there are; ids are 0 to num_blocks - 1.
        block_size: tokens one block holds.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise EngineError(
                f"a cache of {num_blocks} blocks of {block_size} tokens is not possible: both start at 1"
            )
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._clean = list(range(num_blocks - 1, -1, -1))  # free, without a key
        self._kept: dict[int, None] = {}  # free, with a key; freed longest ago first
        self._holders = [0] * num_blocks
        self._keys: dict[int, bytes] = {}  # by block
        self._index: dict[bytes, int] = {}  # block by key

    @property
    def num_free(self) -> int:
        """Blocks that may be allocated now."""
        return len(self._clean) + len(self._kept)

    def blocks_for(self, tokens: int) -> int:
        """Return how many blocks hold `tokens` tokens."""
        return -(-tokens // self.block_size)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks; what free ones held is forgotten when there are no others.

        Raises:
            EngineError: fewer are free; none is taken.
        """
        if count > self.num_free:
            raise EngineError(
                f"{count} cache blocks asked for, {self.num_free} of {self.num_blocks} are free"
            )
        blocks = [self._clean.pop() if self._clean else self._evict() for _ in range(count)]
        for block in blocks:
            self._holders[block] = 1
        return blocks

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """Return the blocks with these keys, up to the first that is not there. That takes none of them."""
        blocks = []
        for key in keys:
            block = self._index.get(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def count_free(self, blocks: Sequence[int]) -> int:
        """Return how many of some blocks nobody holds."""
        return sum(self._holders[block] == 0 for block in blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        """Take blocks that were found, beside whoever holds them already."""
        for block in blocks:
            self._kept.pop(block, None)
            self._holders[block] += 1

    def free(self, blocks: Sequence[int]) -> list[int]:
        """Give blocks back; return those that nobody else holds.

        The last of them will be evicted before the first, which more prompts may begin with; of those without
        a key the first will be the next one handed out.
        """
        freed = []
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block] == 0:
                freed.append(block)
                if block in self._keys:
                    self._kept[block] = None
                else:
                    self._clean.append(block)
        return freed

    def publish(self, block: int, key: bytes) -> None:
        """Let a block that is held be found by the key of its contents, unless another is already."""
        if key not in self._index:
            self._index[key] = block
            self._keys[block] = key

    def forget(self, blocks: Sequence[int]) -> None:
        """Let blocks that are held no longer be found: their contents are not to be trusted."""
        for block in blocks:
            key = self._keys.pop(block, None)
            if key is not None:
                del self._index[key]

    def _evict(self) -> int:
        block = next(iter(self._kept))
        del self._kept[block]
        self.forget([block])
        return block

    def check_invariants(self, owned: list[list[int]]) -> None:
        """Assert that every block is either free or held by exactly as many as have it in `owned`."""
        held = Counter(block for blocks in owned for block in blocks)
        assert all(len(set(blocks)) == len(blocks) for blocks in owned), "a sequence holds a block twice"
        free = [*self._clean, *self._kept]
        assert sorted([*free, *held]) == list(range(self.num_blocks)), (
            f"blocks lost, shared or invented: free {sorted(free)}, held {sorted(held)}"
        )
        wrong = [block for block in range(self.num_blocks) if self._holders[block] != held[block]]
        assert not wrong, f"blocks lost, shared or invented: wrong number of holders for {wrong}"
        assert {block: key for key, block in self._index.items()} == self._keys
        assert len(self._index) == len(self._keys)
        assert self._kept.keys() <= self._keys.keys()
        assert not self._keys.keys() & set(self._clean)
