"""Alarms and budgets: the one safe remedy, or the fewest instances; people are told of both."""

import json
from collections.abc import Callable
from typing import Any

from tests.lambdas.account import Account
from tests.lambdas.test_release import approve, published, reconciled
from tests.lifecycle.support import COMPONENT, TWO

Call = Callable[..., Any]


def serving(call: Call, account: Account) -> None:
    version = published(call)
    reconciled(call, account, version)
    approve(call, version)


def sns(message: object) -> dict[str, Any]:
    text = message if isinstance(message, str) else json.dumps(message)
    return {"Records": [{"Sns": {"Message": text}}]}


def alarm(name: str, state: str = "ALARM", time: str = "2026-01-01T00:00:00.000+0000") -> dict[str, Any]:
    return sns({"AlarmName": name, "NewStateValue": state, "StateChangeTime": time})


HEALTH = "byollm-dev-guard-main-health"


def test_a_broken_endpoint_gets_fresh_instances_once_an_alarm(call: Call, account: Account) -> None:
    serving(call, account)
    (before,) = account.configs
    for _ in range(2):  # SNS delivers at least once
        call("remediate", alarm(HEALTH))
        account.settle()
        assert reconciled(call, account, None) == []
    assert len(account.given("UpdateEndpoint")) == 1
    assert before not in account.configs
    assert "the endpoint gets fresh instances" in account.said[0][1]
    call("remediate", alarm(HEALTH, time="2026-01-02T00:00:00.000+0000"))
    assert len(account.given("UpdateEndpoint")) == 2


def test_an_endpoint_that_is_being_changed_is_left_alone(call: Call, account: Account) -> None:
    serving(call, account)
    second = published(call, 2)
    call("reconcile", {"version": second})
    call("remediate", alarm(HEALTH))
    assert len(account.given("UpdateEndpoint")) == 1
    assert "left alone" in account.said[0][1]
    account.settle()
    assert reconciled(call, account, second) == []


def test_another_alarm_is_for_people(call: Call, account: Account) -> None:
    serving(call, account)
    call("remediate", alarm("byollm-dev-guard-main-latency"))
    assert account.given("UpdateEndpoint") == []
    ((subject, message),) = account.said
    assert subject == "byollm dev: about byollm-dev-guard-main-latency"
    assert "without a person" in message


def test_other_news_is_no_alarm(call: Call, account: Account) -> None:
    for message in ("the budget is spent", "[1]", {"NewStateValue": "ALARM"}):
        call("remediate", sns(message))
    call("remediate", alarm(HEALTH, state="OK"))
    assert account.said == []
    assert account.calls == []


def test_a_spent_budget_puts_a_component_to_sleep(
    call: Call, account: Account, declare: Callable[..., Any]
) -> None:
    declare(COMPONENT)
    serving(call, account)
    call("scale_down", sns("AWS Budget Notification"))
    assert account.components["byollm-dev-main"]["RuntimeConfig"] == {"DesiredCopyCount": 0}
    (target,) = account.targets.values()
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 0)
    assert "goes to sleep" in account.said[0][1]
    reconciled(call, account, None)  # the next release or deployment scales again
    (target,) = account.targets.values()
    assert target["MaxCapacity"] == 3


def test_a_spent_budget_leaves_a_variant_its_minimum(
    call: Call, account: Account, declare: Callable[..., Any]
) -> None:
    declare(TWO)
    serving(call, account)
    account.endpoints["byollm-dev"]["ProductionVariants"][0]["DesiredInstanceCount"] = 5
    call("scale_down", sns("AWS Budget Notification"))
    assert account.endpoints["byollm-dev"]["ProductionVariants"][0]["DesiredInstanceCount"] == 2
    (target,) = account.targets.values()
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 2)


def test_a_budget_without_an_endpoint_is_told_of_all_the_same(call: Call, account: Account) -> None:
    call("scale_down", sns("AWS Budget Notification"))
    assert len(account.said) == 1
