"""Who is told when something is wrong, what may be spent, and whether calls of AWS are recorded."""

from typing import Annotated

from pydantic import Field

from byollm.settings.base import Section

Percent = Annotated[int, Field(ge=1, le=100)]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class ObservabilitySettings(Section):
    """Alarms, spending and the record of calls."""

    alarm_emails: tuple[Email, ...] = ()
    """Addresses that alarms are sent to; each has to confirm once, by a link that AWS sends."""
    release_emails: tuple[Email, ...] = ()
    """Addresses that are told of new versions of the model: registered, approved, refused."""
    pagerduty_secret: Annotated[str, Field(pattern=r"^[\w/+=.@-]+$")] | None = None
    """Name of the secret in Secrets Manager, in the same region, whose text is the HTTPS address of a
    PagerDuty integration for CloudWatch; alarms are sent there too."""
    cpu_percent: Percent = 80
    """CPU use of an instance or a service, in percent, that raises an alarm."""
    memory_percent: Percent = 85
    """Memory use of an instance or a service, in percent, that raises an alarm."""
    queue_depth: Annotated[int, Field(ge=0)] = 10
    """Messages in a dead-letter queue, above which there is an alarm."""
    monthly_budget_usd: Annotated[float, Field(gt=0)] | None = None
    """Spending of a month, in US dollars, over all that carries the environment's tag. Those who get alarms
    are told at 80 % of it and when it is about to be passed; when it is spent, the endpoint goes down to its
    fewest instances. AWS counts by a tag that is activated for costs."""
    trail: bool = False
    """Record every call of AWS in the account, in all regions. An account's first trail is free; leave it off
    where there is one."""
