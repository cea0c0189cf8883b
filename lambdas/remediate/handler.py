"""Does the one safe thing about an alarm."""

import json
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle import Reconciler, Versions
from byollm.lifecycle.artefact import digest
from byollm.lifecycle.news import announce
from lambdas.observed import clients, count, deployment, logger, observed

BROKEN = "-health"
"""What the names of alarms end with that mean: most calls fail."""


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> None:
    """Take an alarm from SNS.

    An endpoint that fails most calls gets fresh instances, once an alarm. Everything else is for people.
    """
    alarms = [_alarm(record["Sns"]["Message"]) for record in event["Records"]]
    count("Alarms", sum(alarm is not None for alarm in alarms))
    for alarm in alarms:
        if alarm is not None:
            outcome = _remedy(str(alarm["AlarmName"]), str(alarm.get("StateChangeTime", "")))
            logger.info("remedied", extra={"alarm": alarm["AlarmName"], "outcome": outcome})
            announce(clients, deployment(), f"about {alarm['AlarmName']}", outcome)


def _alarm(message: str) -> dict[str, Any] | None:
    """Return an alarm that has gone off; None for any other message, such as this function's own."""
    try:
        alarm = json.loads(message)
    except ValueError:
        return None
    gone_off = isinstance(alarm, dict) and alarm.get("NewStateValue") == "ALARM" and "AlarmName" in alarm
    return alarm if gone_off else None


def _remedy(alarm: str, since: str) -> str:
    """Renew the endpoint's instances where that is safe; say what was done."""
    if not alarm.endswith(BROKEN):
        return f"{alarm} has gone off. No remedy is safe without a person: see docs/troubleshooting.md."
    declared = deployment()
    artefacts = Versions(clients, declared).serving()
    reconciler = Reconciler(clients, declared)
    if not artefacts or not reconciler.renew(digest([alarm, since])):
        return f"{alarm} has gone off while the endpoint is being changed, or is not there: left alone."
    progress = reconciler.step(artefacts)
    return f"{alarm} has gone off: the endpoint gets fresh instances. {progress.waiting_for}"
