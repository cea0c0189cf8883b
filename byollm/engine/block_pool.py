"""The blocks of the KV cache: which are free. Knows nothing of tensors."""

from byollm.engine.errors import EngineError


class BlockPool:
    """Hands out ids of equal blocks of `block_size` cache slots.

    A stack: the block freed last is handed out first, while its memory is still warm in the CPU's cache.

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
        self._free = list(range(num_blocks - 1, -1, -1))

    @property
    def num_free(self) -> int:
        """Blocks that may be allocated now."""
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """Return how many blocks hold `tokens` tokens."""
        return -(-tokens // self.block_size)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks.

        Raises:
            EngineError: fewer are free; none is taken.
        """
        if count > len(self._free):
            raise EngineError(
                f"{count} cache blocks asked for, {len(self._free)} of {self.num_blocks} are free"
            )
        return [self._free.pop() for _ in range(count)]

    def free(self, blocks: list[int]) -> None:
        """Give blocks back; the first of them will be the next one handed out."""
        self._free.extend(reversed(blocks))

    def check_invariants(self, owned: list[list[int]]) -> None:
        """Assert that every block is either free or in exactly one of the `owned` lists."""
        held = [block for blocks in owned for block in blocks]
        assert sorted(self._free + held) == list(range(self.num_blocks)), (
            f"blocks lost, shared or invented: free {sorted(self._free)}, held {sorted(held)}"
        )
