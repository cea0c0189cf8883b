"""Starts the release of a model version and follows it, step by step, to its end."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from byollm.aws import listed, one
from byollm.doctor.patient import Patient
from byollm.settings import ByollmError

PAUSE_SECONDS = 1.0
# The state machine's steps that can fail, and the function that each of them runs.
FUNCTIONS = {
    "Publish": "publish",
    "Reconcile": "reconcile",
    "SmokeTest": "smoke_test",
    "Approve": "approve",
    "RollBack": "reconcile",
}


class ReleaseError(ByollmError):
    """A version was not released; what was approved last goes on."""


def release(patient: Patient, console: Console, *, image: str, model: str, variant: str = "main") -> None:
    """Release a model on an image, or follow the release of just that if one is under way.

    Args:
        patient: the environment.
        console: shows each step as it begins.
        image: address of the inference image, with its digest.
        model: address of the model's folder, `s3://…/`.
        variant: the variant of the endpoint that it is for.

    Raises:
        ReleaseError: another release is under way, or this one failed.
    """
    asked = {"image": image, "model": model, "variant": variant}
    machine = _machine(patient)
    execution = _under_way(patient, machine, asked)
    if execution is None:
        states = patient.client("stepfunctions")
        execution = states.start_execution(stateMachineArn=machine, input=json.dumps(asked))["executionArn"]
    follow(patient, console, execution)


@dataclass
class _Steps:
    """What an execution has done so far."""

    last_event: int = 0
    name: str = ""
    failed: str = ""
    waiting_for: str = ""
    new: list[str] = field(default_factory=list)

    def read(self, states: Any, execution: str) -> None:
        """Take in what is new, from the end: the history of a long wait is long."""
        events = []
        for event in listed(
            states, "get_execution_history", "events", executionArn=execution, reverseOrder=True
        ):
            if event["id"] <= self.last_event:
                break
            events.append(event)
        self.new = []
        for event in reversed(events):
            self.last_event = event["id"]
            self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        if entered := event.get("stateEnteredEventDetails"):
            name = entered["name"]
            if name in ("Reject", "AnnounceFailure") and not self.failed:
                self.failed = self.name
            if name in FUNCTIONS:
                if name != self.name:
                    self.new.append(name)
                self.name = name
        elif left := event.get("stateExitedEventDetails"):
            output = json.loads(left.get("output") or "null")
            progress = output.get("progress") if isinstance(output, dict) else None
            self.waiting_for = (progress or {}).get("waiting_for") or ""


def follow(patient: Patient, console: Console, execution: str) -> None:
    """Show the steps of an execution until it ends.

    Raises:
        ReleaseError: it failed; the message says in which step, why, and where its log is.
    """
    states, began, steps = patient.client("stepfunctions"), time.monotonic(), _Steps()
    with console.status("Releasing") as status:
        while True:
            # Asked before the history is read, so that the last steps are not missed.
            now = states.describe_execution(executionArn=execution)
            steps.read(states, execution)
            for name in steps.new:
                console.print(f"{time.monotonic() - began:6.0f} s  {name}")
            status.update(
                f"{steps.name}: waiting for {steps.waiting_for}" if steps.waiting_for else steps.name
            )
            if now["status"] != "RUNNING":
                break
            time.sleep(PAUSE_SECONDS)
    if now["status"] != "SUCCEEDED":
        raise ReleaseError(_why(patient, now, steps))
    answer = json.loads(now.get("output") or "{}").get("smoke_test", {}).get("answer", "")
    console.print(
        f"{time.monotonic() - began:6.0f} s  released. Asked a question, it says: {answer}", markup=False
    )


def _machine(patient: Patient) -> str:
    """Return the ARN of the state machine.

    Raises:
        ReleaseError: there is none.
    """
    name = f"byollm-{patient.env}-release"
    found = listed(patient.client("stepfunctions"), "list_state_machines", "stateMachines")
    for each in found:
        if each["name"] == name:
            return str(each["stateMachineArn"])
    raise ReleaseError(f"there is no state machine {name}: run `byollm deploy --env {patient.env}` first")


def _under_way(patient: Patient, machine: str, asked: dict[str, str]) -> str | None:
    """Return the execution that releases what is asked for; None where nothing is being released.

    Raises:
        ReleaseError: something else is being released.
    """
    states = patient.client("stepfunctions")
    running = listed(states, "list_executions", "executions", stateMachineArn=machine, statusFilter="RUNNING")
    for each in running:
        there = one(states.describe_execution, executionArn=each["executionArn"]) or {}
        if json.loads(there.get("input") or "null") == asked:
            return str(each["executionArn"])
        raise ReleaseError(
            f"another release is under way: {each['name']}. Wait until it has ended, then try again"
        )
    return None


def _why(patient: Patient, ended: dict[str, Any], steps: _Steps) -> str:
    step, cause = steps.failed or steps.name, ended.get("cause", "")
    try:
        said = json.loads(cause)  # what a function raised
        cause = said.get("errorMessage", cause) if isinstance(said, dict) else cause
    except ValueError:
        pass
    log = f"/aws/lambda/byollm-{patient.env}-{FUNCTIONS[step]}" if step in FUNCTIONS else "none"
    what = "was stopped" if ended["status"] == "ABORTED" else "failed"
    return (
        f"the release {what} in step {step or 'none'} ({ended.get('error') or ended['status']}): {cause}\n"
        f"What was approved last goes on being served. The step's log is {log}, and all of it "
        f"is at {ended['executionArn']}"
    )
