"""What all stacks of one environment share: where they stand and how long what they keep is kept."""

from typing import Annotated, Literal

from pydantic import Field

from byollm.settings.base import Section

Region = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]

# What CloudWatch Logs accepts, up to ten years.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
LogDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]


class AwsSettings(Section):
    """What all stacks of one environment share."""

    account: Annotated[str, Field(pattern=r"^\d{12}$")] | None = None
    """The account that the stacks may be deployed to; by default the one whose credentials are used."""
    region: Region = "ca-central-1"
    """The region that the stacks stand in."""
    endpoint_url: str | None = None
    """Address of an emulated AWS, such as http://localhost:4566; by default AWS itself."""
    retain: bool = False
    """For an environment whose data cannot be made again: keys, buckets, tables and images outlive their
    stacks, and stacks and tables refuse to be deleted."""
    log_days: LogDays = 30
    """How long logs are kept, in days; CloudWatch Logs accepts only these."""
