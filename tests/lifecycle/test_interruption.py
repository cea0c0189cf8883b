"""Killed after any call, or crossed by another, the reconciler comes to the same end."""

from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from byollm.lifecycle import Deployment, Reconciler
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
def test_two_at_once_wait_for_each_other(spec: Any) -> None:
    """One looks at what is there, the other goes ahead, and then the first goes on with what it saw."""
    declared = deployment(spec)
    for aws, artefacts in (FakeAws(), serving(declared)), (standing(declared), serving(declared, 2)):
        for calls in range(20):
            account = deepcopy(aws)
            account.in_between = (calls, partial(Reconciler(account, declared).step, artefacts))
            progress = Reconciler(account, declared).step(artefacts)
            if account.in_between:
                break  # a step has no more calls than this
            assert not progress.done
            account.settle()
            converge(account, declared, artefacts)
            assert len(account.given("UpdateEndpoint") + account.given("UpdateInferenceComponent")) <= 2
