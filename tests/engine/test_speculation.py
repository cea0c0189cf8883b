import pytest

from byollm.engine.request import Request
from byollm.engine.speculation import Drafter, History, draft_length
from tests.engine.support import make_request


def find(tokens: list[int], match: int = 2, count: int = 3) -> list[int]:
    return History().find(tokens, match, count)


def test_what_followed_the_last_tokens_before_is_the_draft() -> None:
    assert find([5, 6, 1, 2, 3, 9, 5, 6]) == [1, 2, 3]


def test_latest_occurrence_counts() -> None:
    assert find([5, 6, 1, 5, 6, 2, 2, 7, 5, 6]) == [2, 2, 7]


def test_without_an_earlier_occurrence_there_is_none() -> None:
    assert find([1, 2, 3, 4, 5, 6]) == []
    assert find([6, 1, 5, 2, 5, 6]) == []  # both are there, but not together


def test_tokens_alike_in_part_are_not_taken_for_each_other() -> None:
    assert find([0x0102, 0x0304, 9, 0x01, 0x02, 0x03, 0x04]) == []
    assert find([0xD800, 0x10FFFF, 9, 0xD800, 0x10FFFF]) == [9, 0xD800, 0x10FFFF]


def test_what_repeats_is_guessed_to_go_on_repeating() -> None:
    assert find([4, 7, 7, 7], count=5) == [7, 7, 7, 7, 7]
    assert find([1, 2, 3, 1, 2, 3, 1, 2], count=7) == [3, 1, 2, 3, 1, 2, 3]


def test_search_goes_on_as_the_sequence_grows() -> None:
    history, tokens = History(), [5, 6, 1, 2]
    assert history.find(tokens, 2, 2) == []
    tokens += [5, 6]
    assert history.find(tokens, 2, 2) == [1, 2]
    tokens += [3, 5, 6]
    assert history.find(tokens, 2, 2) == [3, 5]


@pytest.mark.parametrize(("rate", "running"), [(0.1, 1), (0.5, 4), (0.8, 16), (0.9, 32)])
def test_no_draft_where_it_would_not_pay(rate: float, running: int) -> None:
    assert draft_length(rate, running, 8) == 0


def test_the_surer_the_guesses_and_the_fewer_run_the_longer_the_draft() -> None:
    assert draft_length(1.0, 1, 8) == 8
    by_rate = [draft_length(rate / 20, 1, 8) for rate in range(21)]
    by_batch = [draft_length(0.9, running, 8) for running in range(1, 40)]
    assert by_rate == sorted(by_rate)
    assert by_batch == sorted(by_batch, reverse=True)
    assert (by_rate[0], by_batch[-1]) == (0, 0)


def decoding(max_tokens: int = 20) -> Request:
    request = make_request("a", [5, 6, 1, 2, 3, 4, 7, 8, 9, 5, 6], max_tokens=max_tokens)
    request.computed = len(request.tokens) - 1
    return request


def test_only_sequences_that_decode_get_drafts() -> None:
    request, prompt = decoding(), make_request("b", [5, 6, 1, 5, 6])
    assert set(Drafter(4, 2).propose([request, prompt])) == {request}


def test_draft_leaves_a_token_for_the_step_itself() -> None:
    drafter = Drafter(8, 2)
    request = decoding(max_tokens=3)
    request.history = History(right=1000)
    assert drafter.propose([request]) == {request: [1, 2]}
    assert drafter.propose([decoding(max_tokens=1)]) == {}


def test_switched_off_it_proposes_nothing() -> None:
    assert Drafter(0, 2).propose([decoding()]) == {}


def test_wrong_guesses_end_the_drafts_for_a_while() -> None:
    drafter, request = Drafter(8, 2), decoding()
    failures = 0
    while draft := drafter.propose([request]):
        drafter.learn(request, len(draft[request]), 0)
        failures += 1
        assert failures < 10
    pauses = 0
    while not drafter.propose([request]):
        pauses += 1
        assert pauses < 500
    assert pauses > 10
    assert (drafter.drafts, drafter.right) == (failures, 0)


def test_right_guesses_make_drafts_longer() -> None:
    drafter, request = Drafter(8, 2), decoding()
    first = drafter.propose([request])[request]
    for _ in range(6):
        drafter.learn(request, len(first), len(first))
    assert len(drafter.propose([request])[request]) > len(first)
    assert (drafter.drafted, drafter.right) == (6 * len(first), 6 * len(first))
