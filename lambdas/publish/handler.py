"""Registers a version of the model."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from byollm.lifecycle import Artefact, Versions
from lambdas.observed import clients, count, deployment, logger, observed


@observed
def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    """Take `{"image", "model", "variant"}`; return `{"version"}`, the ARN of its model package."""
    artefact = Artefact.of(event["image"], event["model"])
    version = Versions(clients, deployment()).register(artefact, event["variant"])
    count("VersionsRegistered")
    logger.info("registered", extra={"version": version, **artefact.model_dump()})
    return {"version": version}
