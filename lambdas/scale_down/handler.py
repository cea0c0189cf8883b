"""Takes the endpoint down to its fewest instances when the budget is spent."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle import Reconciler
from byollm.lifecycle.news import announce
from lambdas.observed import clients, count, deployment, logger, observed


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> None:
    """Take a budget's notice from SNS."""
    declared = deployment()
    changes = Reconciler(clients, declared).scale_down()
    count("ScaledDown")
    logger.info("scaled down", extra={"changes": changes})
    what = "\n".join(changes) or "It runs on its fewest instances already, or is being changed."
    announce(
        clients,
        declared,
        "the budget is spent, and the endpoint scaled down",
        f"{what}\nIt scales again after the next release or deployment.",
    )
