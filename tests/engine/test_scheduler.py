"""The scheduler by exact block ids on small pools; blocks hold 4 tokens here."""

from byollm.engine.block_pool import BlockPool
from byollm.engine.request import Request
from byollm.engine.scheduler import Chunk, Scheduler
from tests.engine.support import make_request


def scheduler(blocks: int = 11, max_running: int = 4, max_batch_tokens: int = 16) -> Scheduler:
    return Scheduler(BlockPool(blocks, 4), max_running, max_batch_tokens)


def run(chunks: list[Chunk], token: int = 7) -> None:
    """Pretend that the chunks were computed; each that reaches its end yields a token."""
    for chunk in chunks:
        chunk.request.computed = chunk.end
        if chunk.rows:
            chunk.request.append(token)


def plan(chunks: list[Chunk]) -> list[tuple[str, int, int]]:
    return [(chunk.request.request_id, chunk.start, chunk.end) for chunk in chunks]


def step(subject: Scheduler) -> list[tuple[str, int, int]]:
    chunks = subject.schedule()
    subject.check_invariants()
    planned = plan(chunks)
    run(chunks)
    subject.check_invariants()
    return planned


def added(subject: Scheduler, *requests: Request) -> None:
    for request in requests:
        subject.add(request)


def test_idle_scheduler_has_nothing_to_do() -> None:
    assert scheduler().schedule() == []


def test_prompt_is_computed_and_then_one_token_a_step() -> None:
    subject, a = scheduler(), make_request("a", 5)
    subject.add(a)
    assert step(subject) == [("a", 0, 5)]
    assert a.blocks == [0, 1]
    assert [step(subject) for _ in range(4)] == [[("a", n, n + 1)] for n in range(5, 9)]
    assert a.blocks == [0, 1, 2]  # the third came with position 8, and no sooner
    assert len(a.tokens) == 10


def test_block_comes_only_when_the_last_is_full() -> None:
    subject, a = scheduler(), make_request("a", 4)
    subject.add(a)
    step(subject)
    assert a.blocks == [0]
    step(subject)
    assert a.blocks == [0, 1]


def test_long_prompt_is_cut_into_chunks_of_the_budget() -> None:
    subject, a = scheduler(max_batch_tokens=6), make_request("a", 15)
    subject.add(a)
    assert [step(subject) for _ in range(4)] == [
        [("a", 0, 6)],
        [("a", 6, 12)],
        [("a", 12, 15)],
        [("a", 15, 16)],
    ]
    assert a.blocks == [0, 1, 2, 3]


def test_only_the_chunk_that_reaches_the_end_samples() -> None:
    subject = scheduler(max_batch_tokens=6)
    subject.add(make_request("a", 8))
    chunks = subject.schedule()
    assert [chunk.rows for chunk in chunks] == [0]
    run(chunks)
    assert [chunk.rows for chunk in subject.schedule()] == [1]


def test_decoding_comes_first_and_prompts_share_the_rest_of_the_budget() -> None:
    subject = scheduler(blocks=30, max_batch_tokens=8)
    added(subject, make_request("a", 3), make_request("b", 3))
    assert step(subject) == [("a", 0, 3), ("b", 0, 3)]
    added(subject, make_request("c", 10), make_request("d", 9))
    assert step(subject) == [("a", 3, 4), ("b", 3, 4), ("c", 0, 6)]
    assert step(subject) == [("a", 4, 5), ("b", 4, 5), ("c", 6, 10), ("d", 0, 2)]
    assert step(subject) == [("a", 5, 6), ("b", 5, 6), ("c", 10, 11), ("d", 2, 7)]
    assert step(subject) == [("a", 6, 7), ("b", 6, 7), ("c", 11, 12), ("d", 7, 9)]


def test_no_more_than_max_running_are_admitted() -> None:
    subject = scheduler(blocks=30, max_running=2)
    a, b, c = make_request("a", 2), make_request("b", 2), make_request("c", 2)
    added(subject, a, b, c)
    assert step(subject) == [("a", 0, 2), ("b", 0, 2)]
    assert step(subject) == [("a", 2, 3), ("b", 2, 3)]
    subject.remove(a)
    assert step(subject) == [("b", 3, 4), ("c", 0, 2)]


def test_first_in_the_queue_is_not_overtaken_by_a_smaller_one() -> None:
    subject = scheduler(blocks=6)
    a, big, small = make_request("a", 12), make_request("big", 16), make_request("small", 2)
    added(subject, a, big, small)
    assert step(subject) == [("a", 0, 12)]
    assert step(subject) == [("a", 12, 13)]
    assert [request.request_id for request in subject.waiting] == ["big", "small"]
    subject.remove(a)
    assert step(subject) == [("big", 0, 16)]


def test_admission_leaves_a_block_for_each_running_sequence() -> None:
    subject = scheduler(blocks=4)
    added(subject, make_request("a", 4), make_request("b", 4), make_request("c", 4))
    # a takes 1 block; b needs 1 and 1 to spare; c needs 1 and 2 to spare, which is one more than there are.
    assert step(subject) == [("a", 0, 4), ("b", 0, 4)]


def test_youngest_is_preempted_when_blocks_run_out() -> None:
    subject = scheduler(blocks=5)
    a, b = make_request("a", 8), make_request("b", 3)
    added(subject, a, b)
    assert step(subject) == [("a", 0, 8), ("b", 0, 3)]
    assert (a.blocks, b.blocks) == ([0, 1], [2])
    assert step(subject) == [("a", 8, 9), ("b", 3, 4)]
    assert step(subject) == [("a", 9, 10), ("b", 4, 5)]
    assert (a.blocks, b.blocks) == ([0, 1, 3], [2, 4])
    assert step(subject) == [("a", 10, 11), ("b", 5, 6)]
    assert step(subject) == [("a", 11, 12), ("b", 6, 7)]
    tokens = list(b.tokens)
    assert step(subject) == [("a", 12, 13)]  # its fourth block comes from b
    assert (a.blocks, b.blocks, b.computed, b.tokens) == ([0, 1, 3, 2], [], 0, tokens)
    assert (list(subject.waiting), subject.preemptions) == ([b], 1)
    assert step(subject) == [("a", 13, 14)]  # 1 block is free, and b needs 2 and 1 to spare
    subject.remove(a)
    assert step(subject) == [("b", 0, 8)]  # anew, with the tokens that it had
    assert b.blocks == [0, 1]


def test_youngest_preempts_itself_when_it_is_the_one_in_need() -> None:
    subject = scheduler(blocks=6)
    a, b = make_request("a", 5), make_request("b", 8)
    added(subject, a, b)
    for _ in range(5):
        assert [name for name, _, _ in step(subject)] == ["a", "b"]
    assert (a.blocks, b.blocks) == ([0, 1, 5], [2, 3, 4])
    assert step(subject) == [("a", 9, 10)]
    assert (a.blocks, b.blocks, len(b.tokens)) == ([0, 1, 5], [], 13)


def test_preempted_sequence_is_served_before_those_that_never_ran() -> None:
    subject = scheduler(blocks=4)
    a, b, c = make_request("a", 7), make_request("b", 3), make_request("c", 2)
    added(subject, a, b, c)
    while not subject.preemptions:
        step(subject)
    assert list(subject.waiting) == [b, c]
    subject.remove(a)
    assert [name for name, _, _ in step(subject)] == ["b", "c"]


def test_several_are_preempted_in_one_step_and_keep_their_order() -> None:
    subject = scheduler(blocks=6, max_batch_tokens=32)
    a, b, c = make_request("a", 4), make_request("b", 4), make_request("c", 4)
    added(subject, a, b, c)
    seen: set[str] = set()
    for _ in range(24):
        if len(a.tokens) == 24:
            break
        step(subject)
        assert [r.request_id for r in (*subject.running, *subject.waiting)] == ["a", "b", "c"]
        seen |= {request.request_id for request in subject.waiting}
    assert seen == {"b", "c"}
    assert len(a.blocks) == 6


def test_nobody_is_admitted_in_a_step_that_preempts() -> None:
    subject = scheduler(blocks=4)
    a, b = make_request("a", 7), make_request("b", 3)
    added(subject, a, b)
    chunks: list[Chunk] = []
    while not subject.preemptions:
        run(chunks)
        chunks = subject.schedule()
    assert [chunk.request for chunk in chunks] == [a]
    assert (subject.running, list(subject.waiting)) == ([a], [b])


def test_removal_frees_blocks_at_once() -> None:
    subject = scheduler(blocks=11)
    a, b = make_request("a", 9), make_request("b", 6)
    added(subject, a, b)
    step(subject)
    assert (a.blocks, b.blocks) == ([0, 1, 2], [3, 4])
    subject.remove(a)
    subject.check_invariants()
    assert (subject.pool.num_free, a.blocks) == (9, [])
    c = make_request("c", 4)
    subject.add(c)
    step(subject)
    assert c.blocks == [0]


def test_waiting_sequence_can_be_removed() -> None:
    subject = scheduler()
    a, b = make_request("a"), make_request("b")
    added(subject, a, b)
    subject.remove(a)
    assert step(subject) == [("b", 0, 4)]


def test_ten_thousand_waiting_cost_a_step_nothing() -> None:
    subject = scheduler(max_running=2)
    requests = [make_request(str(n), 2) for n in range(10_000)]
    added(subject, *requests)
    assert step(subject) == [("0", 0, 2), ("1", 0, 2)]
    for request in reversed(requests):
        subject.remove(request)
    subject.check_invariants()
    assert subject.pool.num_free == 11
