"""Drafts in the scheduler by exact block ids; blocks hold 4 tokens here."""

from byollm.engine.block_pool import BlockPool
from byollm.engine.request import Request
from byollm.engine.scheduler import Chunk, Scheduler
from tests.engine.support import make_request


def decoding(subject: Scheduler, name: str, prompt: int) -> Request:
    """Add a sequence and compute its prompt."""
    request = make_request(name, prompt)
    subject.add(request)
    for chunk in subject.schedule():
        settle(subject, chunk, 0)
    subject.check_invariants()
    return request


def settle(subject: Scheduler, chunk: Chunk, right: int) -> None:
    """Take the first `right` tokens of a draft for true, and a token more."""
    request = chunk.request
    for token in [*chunk.draft[:right], 7]:
        request.computed = len(request.tokens)
        subject.publish(request)
        request.append(token)
    subject.trim(request)


def test_draft_is_computed_with_the_last_known_token() -> None:
    subject = Scheduler(BlockPool(8, 4), 4, 16)
    a = decoding(subject, "a", 5)
    (chunk,) = subject.schedule({a: [1, 2, 3]})
    assert (chunk.start, chunk.end, chunk.draft) == (5, 9, (1, 2, 3))
    assert chunk.tokens == [7, 1, 2, 3]
    assert chunk.rows == 4
    assert a.blocks == [0, 1, 2]


def test_wrong_guesses_give_their_blocks_back() -> None:
    subject = Scheduler(BlockPool(8, 4), 4, 16)
    a = decoding(subject, "a", 5)
    (chunk,) = subject.schedule({a: [1, 2, 3, 4, 5, 6]})
    assert (a.blocks, subject.pool.num_free) == ([0, 1, 2], 5)
    settle(subject, chunk, 1)
    assert (a.blocks, a.computed, len(a.tokens), subject.pool.num_free) == ([0, 1], 7, 8, 6)
    subject.check_invariants()
    (chunk,) = subject.schedule()
    assert (chunk.start, chunk.end, chunk.rows) == (7, 8, 1)


def test_right_guesses_are_published_and_wrong_ones_are_not() -> None:
    subject = Scheduler(BlockPool(12, 4), 4, 32)
    a = decoding(subject, "a", 5)
    (chunk,) = subject.schedule({a: [1, 2, 3, 4, 5, 6]})
    settle(subject, chunk, 4)
    assert a.tokens[5:] == [7, 1, 2, 3, 4, 7]
    assert a.published == 2
    b = make_request("b", [*a.tokens[:10], 5, 6, 9, 9])
    subject.add(b)
    chunk = subject.schedule()[1]
    assert (chunk.start, chunk.end) == (8, 14)


def test_drafts_take_what_budget_decoding_leaves_and_prompts_the_rest() -> None:
    subject = Scheduler(BlockPool(20, 4), 4, 8)
    a, b = decoding(subject, "a", 3), decoding(subject, "b", 3)
    subject.add(make_request("c", 9))
    chunks = subject.schedule({a: [1, 2, 3], b: [1, 2]})
    assert [(chunk.end - chunk.start, chunk.rows) for chunk in chunks] == [(4, 4), (3, 3), (1, 0)]
    for chunk in chunks[:2]:
        settle(subject, chunk, 0)
    chunks = subject.schedule({a: [1, 2, 3, 4, 5], b: [1, 2]})
    assert [chunk.draft for chunk in chunks[:2]] == [(1, 2, 3, 4, 5), (1,)]


def test_nobody_is_preempted_for_a_draft() -> None:
    subject = Scheduler(BlockPool(4, 4), 4, 16)
    a, b = decoding(subject, "a", 7), decoding(subject, "b", 2)
    assert subject.pool.num_free == 1
    chunks = subject.schedule({a: [1, 2, 3, 4, 5, 6, 7, 8], b: [1, 2, 3]})
    assert [chunk.draft for chunk in chunks] == [(1, 2, 3), (1,)]
    assert (a.blocks, b.blocks, subject.preemptions) == ([0, 1, 3], [2], 0)


def test_sequence_that_is_preempted_loses_its_draft() -> None:
    subject = Scheduler(BlockPool(4, 4), 4, 16)
    a, b = decoding(subject, "a", 7), decoding(subject, "b", 2)
    while not subject.preemptions:
        chunks = subject.schedule({b: [1, 2]})
        for chunk in chunks:
            settle(subject, chunk, 0)
    assert [chunk.request for chunk in chunks] == [a]
    assert (b.blocks, b.computed) == ([], 0)
    subject.check_invariants()
