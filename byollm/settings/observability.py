"""Who is told when something is wrong, what may be spent, and whether calls of AWS are recorded."""

from typing import Annotated

from pydantic import Field

from byollm.settings.base import Section

Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class ObservabilitySettings(Section):
    """Alarms, spending and the record of calls."""

    alarm_emails: tuple[Email, ...] = ()
    """Addresses that alarms are sent to; each has to confirm once, by a link that AWS sends."""
    monthly_budget_usd: Annotated[float, Field(gt=0)] | None = None
    """Spending of a month, in US dollars, over all that carries the environment's tag. Those addresses are
    told at 80 % of it, and when it is about to be passed. AWS counts by a tag that is activated for costs."""
    trail: bool = False
    """Record every call of AWS in the account, in all regions. An account's first trail is free; leave it off
    where there is one."""
