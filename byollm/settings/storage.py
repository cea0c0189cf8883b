"""What is stored: how long old versions live, and where copies of the models stand."""

from typing import Annotated

from pydantic import Field, field_validator

from byollm.settings.aws import Region
from byollm.settings.base import Section


class StorageSettings(Section):
    """Buckets, tables and image repositories."""

    tiering_days: Annotated[int, Field(ge=0)] = 30
    """Age at which objects move to S3 Intelligent-Tiering, which charges less for what nobody reads."""
    old_version_days: Annotated[int, Field(ge=1)] = 30
    """How long an overwritten or deleted object can be brought back."""
    access_log_days: Annotated[int, Field(ge=1)] = 90
    """How long the logs of who read and wrote what are kept."""
    model_copies: tuple[Region, ...] = ()
    """Further regions to which every published model is copied, each in a bucket of its own."""
    transfer_acceleration: bool = False
    """Upload through the nearest edge location: for weights that come from afar, at a price a gigabyte."""
    images_kept: Annotated[int, Field(ge=2)] = 20
    """Images kept in a repository; the oldest beyond them are deleted. Enough to roll back to."""

    @field_validator("model_copies")
    @classmethod
    def _each_once(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(regions)) < len(regions):
            raise ValueError("name each region once")
        return regions
