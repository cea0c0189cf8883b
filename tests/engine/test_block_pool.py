import pytest

from byollm.engine.block_pool import BlockPool
from byollm.engine.errors import EngineError


def test_fresh_pool_hands_out_blocks_in_order() -> None:
    pool = BlockPool(num_blocks=4, block_size=16)
    assert pool.allocate(3) == [0, 1, 2]
    assert pool.num_free == 1


def test_block_freed_last_is_handed_out_first() -> None:
    pool = BlockPool(num_blocks=5, block_size=16)
    first, second = pool.allocate(2), pool.allocate(2)
    pool.free(first)
    pool.free(second)
    assert pool.allocate(5) == [2, 3, 0, 1, 4]


def test_asking_for_too_much_takes_nothing() -> None:
    pool = BlockPool(num_blocks=2, block_size=16)
    with pytest.raises(EngineError, match="3 cache blocks asked for, 2 of 2 are free"):
        pool.allocate(3)
    assert pool.num_free == 2


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (15, 1), (16, 1), (17, 2), (32, 2), (33, 3)])
def test_blocks_for_rounds_up(tokens: int, blocks: int) -> None:
    assert BlockPool(num_blocks=1, block_size=16).blocks_for(tokens) == blocks


def test_invariants_catch_lost_and_shared_blocks() -> None:
    pool = BlockPool(num_blocks=3, block_size=16)
    held = pool.allocate(2)
    pool.check_invariants([held])
    with pytest.raises(AssertionError, match="lost, shared or invented"):
        pool.check_invariants([])
    with pytest.raises(AssertionError, match="lost, shared or invented"):
        pool.check_invariants([held, held])


@pytest.mark.parametrize(("blocks", "size"), [(0, 16), (4, 0), (-1, 16)])
def test_impossible_pool_is_refused(blocks: int, size: int) -> None:
    with pytest.raises(EngineError, match="not possible"):
        BlockPool(blocks, size)
