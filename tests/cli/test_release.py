"""A release is started once, followed, and its failure explained."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from byollm.cli import release as module
from byollm.cli.release import ReleaseError, release
from tests.doctor.support import ACCOUNT, ScriptedAws, patient

MACHINE = f"arn:aws:states:ca-central-1:{ACCOUNT}:stateMachine:byollm-dev-release"
EXECUTION = f"arn:aws:states:ca-central-1:{ACCOUNT}:execution:byollm-dev-release:1"
NOW = datetime.now(UTC)
ASKED = {"image": "i@sha256:0", "model": "s3://b/m/", "variant": "main"}


def entered(*names: str) -> list[dict[str, Any]]:
    events = [
        {"type": "TaskStateEntered", "stateEnteredEventDetails": {"name": name, "input": "{}"}}
        for name in names
    ]
    return [{"id": number, "timestamp": NOW, **event} for number, event in enumerate(events, 1)][::-1]


def machine(steps: list[str], status: str, running: list[Any] | None = None, **ended: str) -> ScriptedAws:
    there = {
        "stateMachineArn": MACHINE,
        "name": "byollm-dev-release",
        "type": "STANDARD",
        "creationDate": NOW,
    }
    execution = {"executionArn": EXECUTION, "stateMachineArn": MACHINE, "startDate": NOW, "status": status}
    return ScriptedAws(
        {
            "ListStateMachines": {"stateMachines": [there]},
            "ListExecutions": {"executions": running or []},
            "StartExecution": {"executionArn": EXECUTION, "startDate": NOW},
            "DescribeExecution": execution | {"input": json.dumps(ASKED)} | ended,
            "GetExecutionHistory": {"events": entered(*steps)},
        }
    )


def run(aws: ScriptedAws, **changes: str) -> str:
    console = Console(record=True, width=200, force_terminal=False)
    release(patient(aws), console, **(ASKED | changes))  # type: ignore[arg-type]
    return console.export_text()


def test_each_step_is_shown_once_and_the_answer_at_the_end() -> None:
    steps = [
        "Publish",
        "Reconcile",
        "IsDeployed",
        "Wait",
        "Reconcile",
        "SmokeTest",
        "Approve",
        "AnnounceRelease",
    ]
    answer = json.dumps({"smoke_test": {"answer": "Hello [there]"}})
    shown = run(machine(steps, "SUCCEEDED", output=answer))
    assert [line.split()[2] for line in shown.splitlines()][:4] == [
        "Publish",
        "Reconcile",
        "SmokeTest",
        "Approve",
    ]
    assert "Hello [there]" in shown


def test_a_failure_names_the_step_the_reason_and_the_log() -> None:
    steps = ["Publish", "Reconcile", "SmokeTest", "Reject", "RollBack", "AnnounceFailure"]
    cause = json.dumps({"errorMessage": "it answered nothing", "errorType": "SmokeTestFailed"})
    aws = machine(steps, "FAILED", error="SmokeTestFailed", cause=cause)
    with pytest.raises(
        ReleaseError, match=r"step SmokeTest \(SmokeTestFailed\): it answered nothing"
    ) as failure:
        run(aws)
    assert "/aws/lambda/byollm-dev-smoke_test" in str(failure.value)


@pytest.mark.parametrize("cause", ["", "not JSON", "[]"])
def test_a_failure_before_the_first_step_is_told_too(cause: str) -> None:
    with pytest.raises(ReleaseError, match=r"States\.Runtime"):
        run(machine([], "FAILED", error="States.Runtime", cause=cause))


def test_a_release_of_the_same_that_is_under_way_is_followed() -> None:
    running = [
        {
            "executionArn": EXECUTION,
            "stateMachineArn": MACHINE,
            "name": "1",
            "status": "RUNNING",
            "startDate": NOW,
        }
    ]
    aws = machine(["Publish"], "SUCCEEDED", running)
    run(aws)
    assert "StartExecution" not in [name for name, _ in aws.calls]
    with pytest.raises(ReleaseError, match="another release is under way"):
        run(aws, model="s3://b/other/")


def test_without_the_state_machine_it_says_to_deploy() -> None:
    aws = machine([], "SUCCEEDED")
    aws.answers["ListStateMachines"] = {"stateMachines": []}
    with pytest.raises(ReleaseError, match="byollm deploy --env dev"):
        run(aws)


def test_it_goes_on_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = machine(["Publish"], "RUNNING")
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0)
    wait_for = json.dumps({"progress": {"done": False, "waiting_for": "the endpoint"}})

    def later(seconds: float) -> None:
        aws.answers["DescribeExecution"]["status"] = "SUCCEEDED"
        exited = {"id": 2, "timestamp": NOW, "type": "TaskStateExited"}
        exited["stateExitedEventDetails"] = {"name": "Reconcile", "output": wait_for}
        aws.answers["GetExecutionHistory"]["events"].insert(0, exited)

    monkeypatch.setattr(module.time, "sleep", later)
    assert run(aws).count("Publish") == 1
