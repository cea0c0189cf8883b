"""Asks the endpoint a question."""

import time
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle import Versions
from byollm.lifecycle.smoke import ask
from lambdas.observed import clients, deployment, metrics, observed

MARGIN_S = 80
"""Kept of the time a run may take, to end in words; longer than one question may take."""


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take `{"version"}`; return `{"answer", "seconds"}`."""
    declared = deployment()
    variant = Versions(clients, declared).variant(event["version"])
    left_s = context.get_remaining_time_in_millis() / 1000 - MARGIN_S
    answer = ask(clients, declared, variant, until=time.monotonic() + left_s)
    metrics.add_metric(name="SmokeTestTime", unit=MetricUnit.Seconds, value=answer.seconds)
    return {"answer": answer.text, "seconds": answer.seconds}
