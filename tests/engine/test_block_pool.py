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


def published(pool: BlockPool, count: int) -> list[int]:
    """Blocks of one sequence, held, with the keys b"0", b"1" and so on."""
    blocks = pool.allocate(count)
    for number, block in enumerate(blocks):
        pool.publish(block, b"%d" % number)
    return blocks


def test_blocks_are_found_by_their_keys_up_to_the_first_unknown() -> None:
    pool = BlockPool(num_blocks=4, block_size=16)
    published(pool, 3)
    assert pool.find([b"0", b"1", b"2"]) == [0, 1, 2]
    assert pool.find([b"0", b"else", b"2"]) == [0]
    assert pool.find([b"else", b"1"]) == []


def test_held_by_two_a_block_is_free_when_both_gave_it_back() -> None:
    pool = BlockPool(num_blocks=4, block_size=16)
    blocks = published(pool, 2)
    pool.hold(blocks)
    pool.check_invariants([blocks, blocks])
    assert pool.free(blocks) == []
    assert pool.num_free == 2
    assert pool.count_free(blocks) == 0
    assert pool.free(blocks) == [1, 0]
    assert pool.num_free == 4
    assert pool.count_free(blocks) == 2
    pool.check_invariants([])


def test_free_blocks_are_found_and_held_again() -> None:
    pool = BlockPool(num_blocks=4, block_size=16)
    blocks = published(pool, 2)
    pool.free(blocks)
    assert pool.find([b"0", b"1"]) == blocks
    pool.hold(blocks)
    assert pool.num_free == 2
    pool.check_invariants([blocks])


def test_known_contents_are_evicted_last_and_in_the_order_in_which_they_were_freed() -> None:
    pool = BlockPool(num_blocks=6, block_size=16)
    first, other = published(pool, 3), pool.allocate(1)
    pool.publish(other[0], b"other")
    pool.free(first)
    pool.free(other)
    assert pool.allocate(2) == [4, 5]  # never used
    assert pool.find([b"0", b"1", b"2"]) == [0, 1, 2]
    assert pool.allocate(1) == [2]  # the end of a sequence before its beginning
    assert pool.find([b"0", b"1", b"2"]) == [0, 1]
    assert pool.allocate(1) == [1]
    pool.hold([0])
    pool.free([0])
    assert pool.allocate(1) == [3]  # block 0 was used since
    assert (pool.find([b"0"]), pool.find([b"other"])) == ([0], [])


def test_of_two_blocks_with_the_same_contents_the_first_is_found() -> None:
    pool = BlockPool(num_blocks=3, block_size=16)
    blocks = pool.allocate(2)
    for block in blocks:
        pool.publish(block, b"key")
    assert pool.find([b"key"]) == [0]
    pool.free(blocks)
    pool.check_invariants([])
    assert pool.allocate(3) == [1, 2, 0]  # the second was an ordinary block


def test_forgotten_block_is_not_found_and_is_an_ordinary_one() -> None:
    pool = BlockPool(num_blocks=3, block_size=16)
    blocks = published(pool, 2)
    pool.forget(blocks[:1])
    pool.check_invariants([blocks])
    assert pool.find([b"0"]) == []
    assert pool.find([b"1"]) == [1]
    pool.free(blocks)
    assert pool.allocate(3) == [0, 2, 1]
