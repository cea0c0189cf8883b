"""Takes the endpoint nearer to what it should be."""

import time
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle import Progress, Reconciler, Versions, hasten
from lambdas.observed import clients, count, deployment, logger, observed

PATIENCE_S = 20.0
"""How long a run looks whether what it has just begun is done: where it takes minutes, a later run does."""

MARGIN_S = 120
"""Kept of the time a run may take, for its last step."""


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take `{"version": arn or null}`; return `{"done", "waiting_for"}`.

    Null means what is approved. Where nothing is, nothing is to be served, and the endpoint goes.
    """
    declared = deployment()
    artefacts = Versions(clients, declared).serving(event.get("version"))
    reconciler = Reconciler(clients, declared)
    progress = hasten(
        lambda: reconciler.step(artefacts) if artefacts else reconciler.remove(),
        patience_s=PATIENCE_S,
        until=time.monotonic() + context.get_remaining_time_in_millis() / 1000 - MARGIN_S,
        tell=_note,
    )
    return {"done": progress.done, "waiting_for": progress.waiting_for}


def _note(progress: Progress) -> None:
    count("Changes", len(progress.changes))
    logger.info("stepped", extra={"changes": progress.changes, "waiting_for": progress.waiting_for})
