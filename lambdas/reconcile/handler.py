"""Takes the endpoint one step nearer to what it should be."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle import Reconciler, Versions
from lambdas.observed import clients, count, deployment, logger, observed


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take `{"version": arn or null}`; return `{"done", "waiting_for"}`.

    Null means what is approved. Where nothing is, nothing is to be served, and the endpoint goes.
    """
    declared = deployment()
    artefacts = Versions(clients, declared).serving(event.get("version"))
    reconciler = Reconciler(clients, declared)
    progress = reconciler.step(artefacts) if artefacts else reconciler.remove()
    count("Changes", len(progress.changes))
    logger.info("stepped", extra={"changes": progress.changes, "waiting_for": progress.waiting_for})
    return {"done": progress.done, "waiting_for": progress.waiting_for}
