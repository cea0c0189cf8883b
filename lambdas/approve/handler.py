"""Marks a version of the model approved or rejected."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle import Versions
from lambdas.observed import clients, count, deployment, logger, observed


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Take `{"version", "approved", "reason"}`; return nothing."""
    version, approved = str(event["version"]), event["approved"] is True
    Versions(clients, deployment()).decide(version, approved, str(event["reason"]))
    count("VersionsApproved" if approved else "VersionsRejected")
    logger.info("decided", extra={"version": version, "approved": approved})
    return {}
