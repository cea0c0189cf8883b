"""Training jobs on AWS: on which instances, for how long, and whether on spare capacity."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from byollm.settings.base import Section
from byollm.settings.instances import INSTANCE_TYPES

HOUR_S = 3600


class JobsSettings(Section):
    """Training jobs of SageMaker."""

    instance_types: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "ml.g5.2xlarge",
        "ml.g6.2xlarge",
        "ml.g5.4xlarge",
        "ml.g6.4xlarge",
    )
    """Instance types that a job may run on, best first: the next is for when there is no capacity."""
    spot: bool = True
    """Run on spare capacity: up to 70 % cheaper, taken away at any moment and resumed from a checkpoint."""
    hours: Annotated[int, Field(ge=1, le=120)] = 24
    """Hours that a job may run; then it is stopped."""
    spot_wait_hours: Annotated[int, Field(ge=0, le=120)] = 12
    """Hours that a job on spare capacity may wait for it, beside those that it runs."""

    @model_validator(mode="after")
    def _known_once(self) -> Self:
        unknown = [each for each in self.instance_types if each not in INSTANCE_TYPES]
        if unknown:
            raise ValueError(
                f"instance_types: unknown {', '.join(unknown)}. Known: {', '.join(sorted(INSTANCE_TYPES))}"
            )
        if len(set(self.instance_types)) < len(self.instance_types):
            raise ValueError("instance_types: name each once")
        return self

    @property
    def run_s(self) -> int:
        """Seconds that a job may run."""
        return self.hours * HOUR_S

    @property
    def wait_s(self) -> int:
        """Seconds from its start to its end, what it waits for capacity included."""
        return self.run_s + self.spot_wait_hours * HOUR_S
