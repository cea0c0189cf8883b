"""Runs the checks side by side, each with its time, and turns what AWS refuses into findings."""

import queue
import threading
import time
from collections.abc import Iterator, Mapping

from botocore.exceptions import BotoCoreError, ClientError

from byollm.aws import explain
from byollm.aws.errors import DENIED
from byollm.doctor.checks import Check
from byollm.doctor.finding import Finding, failed, warned
from byollm.doctor.patient import Patient

DENIED_PAGE = "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"

Answer = tuple[str, list[Finding] | BaseException]


def examine(
    patient: Patient, checks: Mapping[str, Check], *, timeout_s: float = 60.0
) -> dict[str, list[Finding]]:
    """Run all checks at once; return the findings of each, in the order of `checks`.

    Args:
        patient: what is examined.
        checks: by name.
        timeout_s: what has not ended by then has failed.
    """
    answers: queue.Queue[Answer] = queue.Queue()
    for name, check in checks.items():
        # Daemons: a check that hangs does not keep the command from ending.
        threading.Thread(target=_run, args=(name, check, patient, answers), daemon=True).start()
    found: dict[str, list[Finding]] = {}
    deadline = time.monotonic() + timeout_s
    while len(found) < len(checks):
        try:
            name, findings = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(findings, BaseException):
            raise findings
        found[name] = findings
    late = [failed(f"no answer within {timeout_s:g} s", "See whether AWS can be reached, and try again")]
    return {name: found.get(name, late) for name in checks}


def _run(name: str, check: Check, patient: Patient, answers: queue.Queue[Answer]) -> None:
    try:
        answers.put((name, list(_findings(check, patient))))
    except BaseException as error:  # raised again where the answers are read: a fault of ours is no finding
        answers.put((name, error))


def _findings(check: Check, patient: Patient) -> Iterator[Finding]:
    """Yield what `check` finds, and as a finding of its own why it could not go on."""
    try:
        yield from check(patient)
    except ClientError as error:
        if error.response["Error"]["Code"] in DENIED:
            yield warned(f"not checked: {explain(error)}", "Allow it, or look yourself", DENIED_PAGE)
        else:
            yield failed(str(explain(error)), "Put that right, then run the doctor again")
    except BotoCoreError as error:
        yield failed(str(explain(error)), "Put that right, then run the doctor again")
