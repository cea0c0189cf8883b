"""What the state machine calls: a version is registered, deployed, decided on, and taken back."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from byollm.lifecycle import EndpointFailed, LifecycleError
from tests.lambdas.account import Account
from tests.lifecycle.support import AB, COMPONENT, artefact

Call = Callable[..., Any]


def published(call: Call, number: int = 1, variant: str = "main") -> str:
    return str(call("publish", {**artefact(number).model_dump(), "variant": variant})["version"])


def reconciled(call: Call, account: Account, version: str | None) -> list[str]:
    """Run it again and again as the state machine does; return what was waited for."""
    waits = []
    while not (answer := call("reconcile", {"version": version}))["done"]:
        waits.append(answer["waiting_for"])
        assert len(waits) < 10
        account.settle()
    return waits


def approve(call: Call, version: str, approved: bool = True, reason: str = "it answers") -> None:
    assert call("approve", {"version": version, "approved": approved, "reason": reason}) == {}


def images(account: Account) -> set[str]:
    return {model["PrimaryContainer"]["Image"] for model in account.models.values()}


def test_the_same_content_is_the_same_version_while_it_is_the_newest(call: Call, account: Account) -> None:
    first = published(call)
    assert published(call) == first
    second = published(call, 2)
    assert second != first
    third = published(call)  # back to the first one: it has to be the newest to be served
    assert third not in (first, second)
    assert [one["ModelApprovalStatus"] for one in account.versions.values()] == ["PendingManualApproval"] * 3


def test_a_version_waits_unapproved_until_it_has_been_tried(call: Call, account: Account) -> None:
    version = published(call)
    assert reconciled(call, account, version) == ["endpoint byollm-dev: Creating"]
    assert images(account) == {artefact(1).image}
    approve(call, version)
    before = account.state()
    assert reconciled(call, account, None) == []
    assert account.state() == before


def test_what_stands_within_seconds_is_brought_up_in_one_run(
    call: Call, account: Account, declare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(COMPONENT)
    monkeypatch.setattr("lambdas.reconcile.handler.PATIENCE_S", 20)
    monkeypatch.setattr(time, "sleep", lambda seconds: account.settle())
    assert call("reconcile", {"version": published(call)}) == {"done": True, "waiting_for": ""}
    assert list(account.components) == ["byollm-dev-main"]


def test_a_run_ends_in_time(call: Call, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lambdas.reconcile.handler.PATIENCE_S", 20)
    answer = call("reconcile", {"version": published(call)}, left_s=120)
    assert answer == {"done": False, "waiting_for": "endpoint byollm-dev: Creating"}


def test_a_rejected_version_gives_way_to_the_approved_one(call: Call, account: Account) -> None:
    good = published(call)
    reconciled(call, account, good)
    approve(call, good)
    bad = published(call, 2)
    reconciled(call, account, bad)
    assert images(account) == {artefact(2).image}
    cause = json.dumps({"errorType": "SmokeTestFailed", "errorMessage": "it does not\nanswer " + "x" * 2000})
    approve(call, bad, approved=False, reason=cause)
    reason = account.versions[bad]["ApprovalDescription"]
    assert reason.startswith("it does not answer xx")
    assert len(reason) <= 1024
    reconciled(call, account, None)
    assert images(account) == {artefact(1).image}


def test_where_nothing_is_approved_nothing_is_left_serving(call: Call, account: Account) -> None:
    first = published(call)
    reconciled(call, account, first)
    approve(call, first, approved=False)
    reconciled(call, account, None)
    assert account.endpoints == {}
    assert account.models == {}


def test_each_variant_serves_its_own_newest_version(
    call: Call, account: Account, declare: Callable[..., Any]
) -> None:
    declare(AB)
    main = published(call, 1)
    reconciled(call, account, main)
    approve(call, main)
    other = published(call, 2, "other")
    reconciled(call, account, other)
    variants = account.endpoints["byollm-dev"]["ProductionVariants"]
    assert [variant["VariantName"] for variant in variants] == ["main", "other"]
    assert images(account) == {artefact(1).image, artefact(2).image}


def test_an_endpoint_that_fails_is_an_error_that_the_state_machine_can_name(
    call: Call, account: Account
) -> None:
    account.failing = "The container did not pass the ping health check."
    with pytest.raises(EndpointFailed, match="ping health check"):
        reconciled(call, account, published(call))


@pytest.mark.parametrize(
    ("event", "what"),
    [
        ({"image": "byollm:latest", "model": artefact().model, "variant": "main"}, "byollm:latest"),
        ({"image": artefact().image, "model": "s3://bucket/no-slash", "variant": "main"}, "no-slash"),
        ({**artefact().model_dump(), "variant": "another"}, "the endpoint has main"),
    ],
)
def test_what_cannot_be_served_is_not_registered(
    call: Call, account: Account, event: dict[str, str], what: str
) -> None:
    with pytest.raises(LifecycleError, match=what):
        call("publish", event)
    assert account.versions == {}
