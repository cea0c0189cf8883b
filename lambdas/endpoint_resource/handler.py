"""The endpoint as a custom resource of CloudFormation."""

import json
import time
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle.custom_resource import answer, converge
from lambdas.observed import clients, count, deployment, logger, observed

MARGIN_S = 120
"""Kept of the time a run may take: for the last step, and for the answer."""

LONGEST_S = 3300
"""CloudFormation waits for an hour; it is told before."""


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> None:
    """Take CloudFormation's request and answer it at the address that it names.

    What takes longer than a run may take is handed to the next run: the event goes out again, with the time
    of its beginning.
    """
    count("Requests")
    name = event.get("PhysicalResourceId", event["LogicalResourceId"])
    began = event.setdefault("Began", time.time())
    until = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - MARGIN_S
    try:
        declared = deployment()
        name = declared.name
        progress = converge(event["RequestType"], clients, declared, until=until)
    except Exception as error:  # whatever it is: CloudFormation would wait an hour for an answer
        logger.exception("failed")
        answer(event, name, failure=f"{type(error).__name__}: {error}")
        return
    if progress.done:
        answer(event, name)
    elif time.time() - began > LONGEST_S:
        answer(event, name, failure=f"after {LONGEST_S} s it still waits for {progress.waiting_for}")
    else:
        clients.client("lambda").invoke(
            FunctionName=context.invoked_function_arn, InvocationType="Event", Payload=json.dumps(event)
        )
