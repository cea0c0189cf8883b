"""The table of list prices that is shipped: each price with its source and the month it is of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError

from byollm.settings.base import Section, explain
from byollm.settings.errors import ByollmError

SHIPPED = Path(__file__).with_name("prices.json")


class PricesError(ByollmError):
    """A table of prices cannot be read, or AWS does not tell one."""


class Asked(Section):
    """How AWS's Price List API is asked for a price."""

    service: str
    """AWS's code of the service."""
    usage: str | None = None
    """What the usage type is, or ends with behind the region's prefix."""
    match: dict[str, str] = Field(default_factory=dict)
    """Attributes that the product has."""


class Price(Section):
    """What one unit costs in each region."""

    item: str
    """What is priced."""
    unit: str
    """Such as `hour`, `GB` or `month`."""
    usd: dict[str, float]
    """US dollars by region."""
    source: str
    """Which of the table's sources tells it."""
    asked: Asked
    """How to ask AWS for it anew."""


class Source(Section):
    """Where prices come from."""

    what: str
    """The source, for people."""
    month: str = Field(pattern=r"^\d{4}-\d{2}$")
    """The month that its prices are of."""


class PriceTable(Section):
    """List prices, without taxes, discounts and free tiers."""

    sources: dict[str, Source]
    """By the name that prices have for them."""
    prices: tuple[Price, ...]
    """One for each item."""

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Read a table; by default the one that is shipped.

        Raises:
            PricesError: it cannot be read, or is no such table.
        """
        path = path or SHIPPED
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, UnicodeDecodeError) as error:
            raise PricesError(f"{path}: the prices cannot be read: {error}") from None
        except ValidationError as error:
            raise PricesError(f"{path} is no table of prices:\n{explain(error, cls)}") from None

    def save(self, path: Path | None = None) -> None:
        """Write it, a line for each price; by default in place of the one that is shipped."""
        rows = ",\n  ".join(json.dumps(price.model_dump(exclude_defaults=True)) for price in self.prices)
        sources = json.dumps({name: each.model_dump() for name, each in self.sources.items()}, indent=2)
        text = f'{{\n "sources": {sources.replace(chr(10), chr(10) + " ")},\n "prices": [\n  {rows}\n ]\n}}\n'
        (path or SHIPPED).write_text(text)

    def find(self, item: str) -> Price:
        """Return the price of an item.

        Raises:
            PricesError: the table does not know it.
        """
        found = self._by_item.get(item)
        if found is None:
            raise PricesError(f"no price of {item!r} in the table")
        return found

    def usd(self, item: str, region: str) -> float | None:
        """What one unit costs; None where the table has no price of it for the region."""
        found = self._by_item.get(item)
        return found.usd.get(region) if found else None

    def told(self, items: set[str]) -> list[str]:
        """Name the sources of these items, with their months."""
        used = {self._by_item[item].source for item in items if item in self._by_item}
        return [f"{each.what}, {each.month}" for name, each in sorted(self.sources.items()) if name in used]

    @property
    def _by_item(self) -> Mapping[str, Price]:
        return {price.item: price for price in self.prices}


Template = dict[str, Any]
"""A CloudFormation template."""
