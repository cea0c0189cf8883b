"""The pipeline: which repository it follows, and to whom it listens."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from byollm.settings.base import Section
from byollm.settings.observability import Email

Branch = Annotated[str, Field(pattern=r"^[\w./-]+$", max_length=255)]
Environment = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,15}$")]


class DeliverySettings(Section):
    """The pipeline from a push to production; there is one where `connection_arn` is set."""

    connection_arn: (
        Annotated[
            str,
            Field(
                pattern=r"^arn:aws:(codeconnections|codestar-connections):[a-z0-9-]+:\d{12}:connection/[\w-]+$"
            ),
        ]
        | None
    ) = None
    """Connection to the code's host, made once in the console, where it is also approved."""
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = None
    """The repository, as `owner/name`."""
    branch: Branch = "main"
    """The branch that is delivered."""
    first: Environment = "dev"
    """The environment that each push is deployed to and tested in before anybody is asked. It stands in the
    same account and region; what is approved goes to the pipeline's own environment."""
    approvers: tuple[Email, ...] = ()
    """Addresses that are asked for approval; each has to confirm once, by a link that AWS sends."""

    @model_validator(mode="after")
    def _a_repository(self) -> Self:
        if self.connection_arn and not self.repository:
            raise ValueError("connection_arn is set, so repository has to be too, as owner/name")
        return self
