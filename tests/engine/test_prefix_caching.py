"""Sharing of prompts' beginnings in the scheduler by exact block ids; blocks hold 4 tokens here."""

from byollm.engine.block_pool import BlockPool
from byollm.engine.scheduler import Scheduler
from tests.engine.support import make_request

SHARED = list(range(50, 60))


def scheduler(
    blocks: int = 11, max_batch_tokens: int = 32, max_running: int = 4, prefix_caching: bool = True
) -> Scheduler:
    return Scheduler(BlockPool(blocks, 4), max_running, max_batch_tokens, prefix_caching)


def step(subject: Scheduler) -> list[tuple[str, int, int]]:
    """Pretend to compute what is scheduled; each that reaches its end yields a token and is published."""
    chunks = subject.schedule()
    subject.check_invariants()
    plan = [(chunk.request.request_id, chunk.start, chunk.end) for chunk in chunks]
    for chunk in chunks:
        chunk.request.computed = chunk.end
        if chunk.rows:
            subject.publish(chunk.request)
            chunk.request.append(7)
    subject.check_invariants()
    return plan


def test_second_prompt_computes_only_what_is_new() -> None:
    subject = scheduler()
    a, b = make_request("a", [*SHARED, 1]), make_request("b", [*SHARED, 2])
    subject.add(a)
    assert step(subject) == [("a", 0, 11)]
    subject.add(b)
    assert step(subject) == [("a", 11, 12), ("b", 8, 11)]
    assert (a.blocks, b.blocks) == ([0, 1, 2], [0, 1, 3])
    assert (a.cached, b.cached) == (0, 8)
    assert (subject.prefix_queries, subject.prefix_hits) == (22, 8)


def test_shared_blocks_stay_while_one_holds_them() -> None:
    subject = scheduler(blocks=6)
    a, b = make_request("a", [*SHARED, 1]), make_request("b", [*SHARED, 2])
    subject.add(a)
    step(subject)
    subject.add(b)
    step(subject)
    subject.remove(a)
    assert subject.pool.num_free == 3
    subject.remove(b)
    assert subject.pool.num_free == 6


def test_finished_sequence_is_found_with_its_answer() -> None:
    subject = scheduler()
    a = make_request("a", 6)
    subject.add(a)
    for _ in range(4):
        step(subject)
    assert (len(a.tokens), a.computed) == (10, 9)
    subject.remove(a)
    turn = make_request("turn", [*a.tokens, 1, 2, 3])
    subject.add(turn)
    assert step(subject) == [("turn", 8, 13)]
    assert turn.blocks == [0, 1, 2, 3]


def test_last_token_is_computed_even_if_all_is_there() -> None:
    subject = scheduler()
    a = make_request("a", 8)
    subject.add(a)
    step(subject)
    subject.remove(a)
    again = make_request("a", 8)
    subject.add(again)
    assert step(subject) == [("a", 4, 8)]
    assert again.blocks == [0, 2]  # block 1 keeps the second half for those who go on
    longer = make_request("a", 9)
    subject.add(longer)
    assert step(subject) == [("a", 8, 9), ("a", 8, 9)]
    assert longer.blocks == [0, 1, 4]


def test_those_who_come_together_wait_a_step_for_the_first() -> None:
    subject = scheduler()
    siblings = [make_request(name, [*SHARED, 1]) for name in "abc"]
    for request in siblings:
        subject.add(request)
    assert step(subject) == [("a", 0, 11)]
    assert step(subject) == [("a", 11, 12), ("b", 8, 11), ("c", 8, 11)]
    assert [request.blocks for request in siblings] == [[0, 1, 2], [0, 1, 3], [0, 1, 4]]


def test_those_who_differ_in_the_first_block_do_not_wait() -> None:
    subject = scheduler()
    for name in "abc":
        subject.add(make_request(name, 6))
    assert step(subject) == [("a", 0, 6), ("b", 0, 6), ("c", 0, 6)]


def test_long_prompt_is_found_once_its_last_chunk_is_proved() -> None:
    subject = scheduler(max_batch_tokens=8)
    a, b = make_request("a", [*SHARED, 1]), make_request("b", [*SHARED, 2])
    subject.add(a)
    assert step(subject) == [("a", 0, 8)]
    assert a.published == 0
    subject.add(b)
    assert step(subject) == [("a", 8, 11), ("b", 0, 5)]
    assert a.published == 2


def test_other_salt_shares_nothing() -> None:
    subject = scheduler()
    a, b = make_request("a", [*SHARED, 1]), make_request("b", [*SHARED, 1])
    b.salt = "tenant"
    subject.add(a)
    subject.add(b)
    assert step(subject) == [("a", 0, 11), ("b", 0, 11)]
    assert b.blocks == [3, 4, 5]


def test_nothing_is_shared_when_it_is_off() -> None:
    subject = scheduler(prefix_caching=False)
    for name in "ab":
        subject.add(make_request(name, [*SHARED, 1]))
    assert step(subject) == [("a", 0, 11), ("b", 0, 11)]
    assert subject.prefix_hits == 0


def test_what_was_not_used_for_longest_makes_room() -> None:
    subject = scheduler(blocks=5)
    for name in "ab":
        request = make_request(name, 8)
        subject.add(request)
        step(subject)
        subject.remove(request)
    big = make_request("c", 9)
    subject.add(big)
    step(subject)
    assert big.blocks == [4, 1, 0]  # the one never used, and then both of the first, the end before the start
    subject.remove(big)
    again = make_request("b", 9)
    subject.add(again)
    assert step(subject) == [("b", 8, 9)]


def test_free_blocks_that_are_found_count_as_needed_for_admission() -> None:
    subject = scheduler(blocks=4)
    a, b = make_request("a", 8), make_request("b", 4)
    subject.add(a)
    step(subject)
    subject.remove(a)
    subject.add(b)
    step(subject)
    longer = make_request("a", 13)
    subject.add(longer)
    assert step(subject) == [("b", 4, 5)]  # 2 found, 2 more wanted, 1 to spare: more than are free
    assert subject.pool.num_free == 2
    subject.remove(b)
    assert step(subject) == [("a", 8, 13)]


def test_preempted_sequence_finds_its_own_blocks_again() -> None:
    subject = scheduler(blocks=7)
    a, b = make_request("a", 14), make_request("b", 8)
    subject.add(a)
    subject.add(b)
    while not subject.preemptions:
        step(subject)
    assert (b.blocks, b.computed, len(b.tokens)) == ([], 0, 11)
    assert len(a.blocks) == 5
    subject.remove(a)
    assert step(subject) == [("b", 8, 11)]
    assert b.blocks[:2] == [4, 5]
    assert b.cached == 0  # as it was when it first came
    assert subject.prefix_queries == 22


def test_discarded_sequence_is_not_found_and_leaves_others_what_they_hold() -> None:
    subject = scheduler()
    a, b = make_request("a", [*SHARED, 1]), make_request("b", [*SHARED, 2])
    subject.add(a)
    step(subject)
    subject.add(b)
    step(subject)
    assert subject.discard(b) == [3]  # to be wiped: nobody else holds it
    subject.check_invariants()
    c = make_request("c", [*SHARED, 3])
    subject.add(c)
    assert step(subject) == [("a", 12, 13), ("c", 0, 11)]
    assert not {*c.blocks} & {*a.blocks}


def test_eight_share_one_long_prompt_in_a_cache_for_two() -> None:
    subject = scheduler(blocks=26, max_batch_tokens=64, max_running=8)
    prompt = list(range(40))
    for name in "abcdefgh":
        subject.add(make_request(name, [*prompt, ord(name)]))
    step(subject)
    step(subject)
    assert len(subject.running) == 8
    assert {tuple(request.blocks[:10]) for request in subject.running} == {tuple(range(10))}
    assert subject.pool.num_free == 26 - 10 - 8
