"""Killed after any call, or crossed by another, the reconciler comes to the same end."""

from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from byollm.lifecycle import Deployment, Reconciler
from byollm.lifecycle.wanted import Wanted
from tests.lifecycle.fake import FakeAws, Kill
from tests.lifecycle.support import (
    AB,
    CANARY,
    COMPONENT,
    ROLLING,
    artefact,
    converge,
    deployment,
    serving,
    take_down,
)

ROLLING_TO_ZERO = {**COMPONENT, "rollout": {"strategy": "rolling"}}
KILLED = pytest.mark.parametrize("spec", [ROLLING_TO_ZERO, CANARY, AB], ids=["component", "canary", "ab"])


def killed_everywhere(begin: FakeAws, go: Any) -> dict[str, Any]:
    """Run `go` killed after each of its calls in turn: it ends as it does unkilled, which is returned."""
    unkilled = deepcopy(begin)
    go(unkilled)
    end = unkilled.state()
    for n in range(1000):
        aws = deepcopy(begin)
        aws.kill_after = n
        try:
            go(aws)
        except Kill:
            aws.settle()
            go(aws)
            assert aws.state() == end, f"killed after call {n}"
        else:
            assert n > 5, "nothing was killed"
            return end
    raise AssertionError("it does not end")


def standing(declared: Deployment) -> FakeAws:
    aws = FakeAws()
    converge(aws, declared)
    return aws


@KILLED
def test_killed_after_any_call_it_comes_to_the_same_end(spec: Any) -> None:
    declared = deployment(spec)
    killed_everywhere(FakeAws(), lambda aws: converge(aws, declared))


@KILLED
def test_killed_after_any_call_an_update_comes_to_the_same_end(spec: Any) -> None:
    declared = deployment(spec)
    end = killed_everywhere(standing(declared), lambda aws: converge(aws, declared, serving(declared, 2)))
    images = {model["PrimaryContainer"]["Image"] for model in end["models"].values()}
    assert images == {artefact(2).image}


@KILLED
def test_killed_after_any_call_a_removal_leaves_nothing(spec: Any) -> None:
    declared = deployment(spec)
    end = killed_everywhere(standing(declared), lambda aws: take_down(aws, declared))
    assert end == FakeAws().state()


@pytest.mark.parametrize(("before", "after"), [({}, COMPONENT), (COMPONENT, {})], ids=["to", "from"])
def test_a_switch_of_hosting_begins_anew_wherever_it_is_killed(before: Any, after: Any) -> None:
    end = killed_everywhere(standing(deployment(before)), lambda aws: converge(aws, deployment(after)))
    assert end == standing(deployment(after)).state()


@pytest.mark.parametrize("spec", [CANARY, ROLLING], ids=["variant", "component"])
@pytest.mark.parametrize("other", [2, 3], ids=["the same", "another"])
def test_two_at_once_wait_for_each_other(spec: Any, other: int) -> None:
    """One looks at what is there, the other goes ahead, and then the first goes on with what it saw."""
    declared = deployment(spec)
    ours, theirs = serving(declared, 2), serving(declared, other)
    for begin in FakeAws(), standing(declared):
        for calls in range(20):
            aws = deepcopy(begin)
            aws.in_between = (calls, partial(Reconciler(aws, declared).step, theirs))
            progress = Reconciler(aws, declared).step(ours)
            if aws.in_between:
                break  # a step has no more calls than this
            assert not progress.done
            assert progress.waiting_for
            aws.settle()
            converge(aws, declared, ours)
            assert aws.state()["models"].keys() == Wanted(declared, ours).models.keys()
            moves = aws.given("UpdateEndpoint") + aws.given("UpdateInferenceComponent")
            assert len(moves) <= (2 if ours == theirs else 4)


def test_what_another_takes_away_is_made_again() -> None:
    """One has made a model and its configuration, and the other tidies, for which they are nobody's."""
    declared = deployment()
    begin = standing(declared)
    for calls in range(12):
        aws = deepcopy(begin)
        aws.in_between = (calls, partial(Reconciler(aws, declared).step, serving(declared)))
        assert not Reconciler(aws, declared).step(serving(declared, 2)).done
        aws.in_between = None
        aws.settle()
        converge(aws, declared, serving(declared, 2))
        assert {model["PrimaryContainer"]["Image"] for model in aws.models.values()} == {artefact(2).image}
