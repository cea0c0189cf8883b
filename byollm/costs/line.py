"""One line of an estimate."""

from dataclasses import dataclass

HOURS = 730
"""Of a month, as AWS counts."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """So much of something at a price.

    Args:
        stack: role of the stack that it stands in.
        item: what is priced, by its name in the table.
        count: how many of its unit a month.
        unit: such as `hour`.
        price: of one unit, in US dollars; None where the table has none for the region.
        how: what the count is made of.
    """

    stack: str
    item: str
    count: float
    unit: str
    price: float | None
    how: str

    @property
    def usd(self) -> float:
        """What it costs a month; 0 where the price is not known."""
        return self.count * (self.price or 0.0)
