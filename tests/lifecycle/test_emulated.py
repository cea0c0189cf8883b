"""The reconciler on an AWS that really runs what it is told to: processes that answer."""

import time

import pytest

from byollm.lifecycle import Deployment, EndpointFailed, Versions
from byollm.lifecycle.smoke import ask
from tests.lifecycle.emulated import Emulated

CANARY = {"strategy": "canary", "wait_s": 60, "bake_s": 0}


def said(emulated: Emulated, declared: Deployment) -> str:
    return ask(emulated.clients, declared, "main", until=time.monotonic() + 120, every_s=0.2).text


def test_versions_take_over_by_a_canary_and_a_bad_one_is_sent_back(emulated: Emulated) -> None:
    declared = emulated.declare("ab", {"scaling": {"minimum": 2}, "rollout": CANARY})
    one, two = {"main": emulated.artefact("one")}, {"main": emulated.artefact("two")}
    emulated.converge(declared, one)
    assert said(emulated, declared) == "one"
    assert emulated.changing_calls(lambda: emulated.converge(declared, one)) == []
    emulated.converge(declared, two)
    assert said(emulated, declared) == "two"
    assert emulated.changing_calls(lambda: emulated.converge(declared, two)) == []
    assert len(emulated.reconciler(declared).left()) == 6  # two alarms, a target, and one each of the rest

    slowly = emulated.declare("ab", {"scaling": {"minimum": 2}, "rollout": {**CANARY, "wait_s": 3600}})
    three = {"main": emulated.artefact("three")}
    emulated.reconciler(slowly).step(three)
    emulated.clients.client("cloudwatch").set_alarm_state(
        AlarmName="byollm-ab-endpoint-errors-main", StateValue="ALARM", StateReason="planted"
    )
    with pytest.raises(EndpointFailed, match=r"sent back: .*byollm-ab-endpoint-errors-main"):
        emulated.converge(slowly, three)
    assert said(emulated, declared) == "two"
    emulated.converge(declared, two)
    assert said(emulated, declared) == "two"
    emulated.take_down(declared)


def test_a_component_whose_maker_was_killed_serves_sleeps_and_goes(emulated: Emulated) -> None:
    spec = {
        "hosting": "component",
        "scaling": {"minimum": 0, "maximum": 2},
        "rollout": {"strategy": "rolling", "wait_s": 0},
    }
    declared = emulated.declare("zero", spec)
    one, two = {"main": emulated.artefact("one")}, {"main": emulated.artefact("two")}
    emulated.killed(declared, one)
    emulated.converge(declared, one)
    assert said(emulated, declared) == "one"
    assert emulated.changing_calls(lambda: emulated.converge(declared, one)) == []
    emulated.converge(declared, two)
    assert said(emulated, declared) == "two"
    changes = emulated.reconciler(declared).scale_down()
    assert changes == [
        "inference-component/byollm-zero-main has 0 and scales no further",
        "component byollm-zero-main goes to sleep",
    ]
    emulated.take_down(declared)


def test_a_container_that_does_not_start_is_told_of(emulated: Emulated) -> None:
    declared = emulated.declare("broken", {})
    group = {"ModelPackageGroupName": declared.package_group}
    emulated.clients.client("sagemaker").create_model_package_group(**group)
    versions = Versions(emulated.clients, declared)
    bad = versions.register(emulated.artefact("nothing"), "main")
    with pytest.raises(EndpointFailed, match="endpoint byollm-broken: Failed"):
        emulated.converge(declared, versions.serving(bad))
    versions.decide(bad, False, "it does not start")
    good = versions.register(emulated.artefact("one"), "main")
    assert versions.serving() == {}
    emulated.converge(declared, versions.serving(good))
    assert said(emulated, declared) == "one"
    versions.decide(good, True, "it answers")
    assert versions.serving() == {"main": emulated.artefact("one")}
    emulated.take_down(declared)
