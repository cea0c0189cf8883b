"""What scaling decides, for any load: inside its bounds, at rest on the target, patient after a change."""

from hypothesis import given
from hypothesis import strategies as st

from byollm.local.scaling.decisions import (
    Bounds,
    Change,
    Cooldowns,
    Wish,
    after_cooldown,
    decided,
    stepped,
    tracked,
)

CAPACITIES = st.integers(1, 200)
LOADS = st.floats(0.01, 5000)
TARGETS = st.floats(0.1, 100)
ANY = Bounds(0, 1000)


@given(CAPACITIES, LOADS, TARGETS)
def test_what_tracks_a_target_is_at_rest_after_one_change(capacity: int, load: float, target: float) -> None:
    wanted = tracked(capacity, load / capacity, target)
    assert tracked(wanted, load / wanted, target) == wanted
    assert load / wanted <= target * (1 + 1e-6)
    assert wanted == 1 or load / (wanted - 1) > target * (1 - 1e-6)


WISHES = st.builds(Wish, st.uuids().map(str), st.one_of(st.none(), st.integers(0, 300)), tracks=st.booleans())


@given(st.integers(0, 200), st.lists(WISHES, max_size=5), st.integers(0, 50), st.integers(0, 50))
def test_no_wish_leads_out_of_the_bounds(capacity: int, wishes: list[Wish], least: int, more: int) -> None:
    decision = decided(capacity, wishes, Bounds(least, least + more))
    if decision is not None:
        assert least <= decision[1] <= least + more
        assert decision[1] != capacity


@given(CAPACITIES, st.lists(st.one_of(st.none(), st.integers(0, 300)), max_size=5))
def test_the_largest_of_all_wishes_is_followed(capacity: int, wanted: list[int | None]) -> None:
    decision = decided(capacity, [Wish(f"p{n}", one) for n, one in enumerate(wanted)], ANY)
    changes = [one for one in wanted if one is not None and one != capacity]
    assert (decision[1] if decision else None) == max(changes, default=None)


@given(CAPACITIES, st.lists(st.integers(0, 300), min_size=1, max_size=4))
def test_one_policy_that_tracks_and_does_not_agree_keeps_all(capacity: int, wanted: list[int]) -> None:
    wishes = [Wish(f"p{n}", min(one, capacity - 1), tracks=True) for n, one in enumerate(wanted)]
    assert decided(capacity, wishes, ANY) is not None
    assert decided(capacity, [*wishes, Wish("keeps", None, tracks=True)], ANY) is None


@given(CAPACITIES, CAPACITIES, st.floats(0, 1), st.floats(1, 600), st.floats(0, 0.99))
def test_the_same_breach_adds_once_in_a_cooldown(
    before: int, more: int, share: float, cooldown: float, passed: float
) -> None:
    last = Change(before, before + more, at=1000)
    metric = share * last.after / last.before  # at most what it added for
    cooldowns, now = Cooldowns(cooldown, cooldown), 1000 + cooldown * passed
    assert after_cooldown(lambda base: tracked(base, metric, 1.0), last.after, last, cooldowns, now) is None


def test_a_larger_breach_adds_within_the_cooldown() -> None:
    last = Change(2, 4, at=1000)
    assert after_cooldown(lambda base: tracked(base, 3.0, 1.0), 4, last, Cooldowns(60, 60), 1001) == 6


@given(st.integers(2, 100), st.floats(1, 600), st.floats(0, 0.99))
def test_nothing_more_is_taken_away_in_a_cooldown_but_may_be_added(
    capacity: int, cooldown: float, passed: float
) -> None:
    last = Change(capacity + 1, capacity, at=1000)
    cooldowns, now = Cooldowns(cooldown, cooldown), 1000 + cooldown * passed
    assert after_cooldown(lambda _: capacity - 1, capacity, last, cooldowns, now) is None
    assert after_cooldown(lambda _: capacity + 1, capacity, last, cooldowns, now) == capacity + 1
    assert after_cooldown(lambda _: capacity - 1, capacity, last, cooldowns, 1000 + cooldown) == capacity - 1


def test_steps_count_the_bound_at_the_threshold_in() -> None:
    up = {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [
            {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 1},
            {"MetricIntervalLowerBound": 10, "ScalingAdjustment": 3},
        ],
    }
    assert [stepped(0, excess, up) for excess in (0, 9.9, 10, 500, -1)] == [1, 1, 3, 3, 0]
    down = {
        "AdjustmentType": "ChangeInCapacity",
        "StepAdjustments": [{"MetricIntervalUpperBound": 0, "ScalingAdjustment": -2}],
    }
    assert [stepped(5, excess, down) for excess in (-3, -0.1)] == [3, 3]
    assert stepped(1, -3, down) == 0


def test_steps_in_percent_are_rounded_as_documented() -> None:
    policy = {"AdjustmentType": "PercentChangeInCapacity", "StepAdjustments": [{"ScalingAdjustment": 25}]}
    assert [stepped(capacity, 1, policy) for capacity in (1, 3, 4, 10)] == [2, 4, 5, 12]
    assert stepped(10, 1, {**policy, "MinAdjustmentMagnitude": 4}) == 14
    policy["StepAdjustments"] = [{"ScalingAdjustment": -25}]
    assert [stepped(capacity, 1, policy) for capacity in (1, 10)] == [0, 8]
