"""The table anew from AWS's Price List API.

https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html
"""

import json
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from byollm.costs.table import Price, PriceTable, Source

API = "api"
HOME = "us-east-1"
"""A region that the API stands in; it tells the prices of all."""


def refreshed(
    table: PriceTable, client: Any, regions: Sequence[str], today: date
) -> tuple[PriceTable, list[str]]:
    """Return the table with the prices that AWS tells now, and what it did not tell.

    A price that is not told in every region asked for stays as it is, with its source.

    Args:
        table: as it is.
        client: boto3's `pricing`.
        regions: whose prices are asked for.
        today: whose month the new prices are of.
    """
    prices, missing = [], []
    for price in table.prices:
        told = {region: found for region in regions if (found := _ask(client, price, region)) is not None}
        missing += [f"{price.item} in {region}" for region in regions if region not in told]
        whole = bool(told) and set(price.usd) <= set(told)
        prices.append(price.model_copy(update={"usd": told, "source": API}) if whole else price)
    sources = dict(table.sources)
    if any(price.source == API for price in prices):
        sources[API] = Source(what="AWS's Price List API", month=f"{today:%Y-%m}")
    used = {price.source for price in prices}
    kept = {name: source for name, source in sources.items() if name in used}
    return PriceTable(sources=kept, prices=tuple(prices)), missing


def _ask(client: Any, price: Price, region: str) -> float | None:
    """Return the one price on demand that AWS tells; of tiers, the first; None where it is not one."""
    asked = price.asked
    filters = [{"Type": "TERM_MATCH", "Field": "regionCode", "Value": region}]
    filters += [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in asked.match.items()]
    if asked.usage:
        filters.append({"Type": "CONTAINS", "Field": "usagetype", "Value": asked.usage})
    pages = client.get_paginator("get_products").paginate(ServiceCode=asked.service, Filters=filters)
    found = {
        usd
        for page in pages
        for product in map(json.loads, page["PriceList"])
        if _is(product["product"]["attributes"].get("usagetype", ""), asked.usage)
        for usd in _first_tiers(product)
    }
    return found.pop() * _units(price) if len(found) == 1 else None


def _is(usage: str, wanted: str | None) -> bool:
    """Whether a usage type is the one wanted: with or without the prefix of a region."""
    return wanted is None or usage == wanted or usage.endswith(f"-{wanted}")


def _first_tiers(product: dict[str, Any]) -> Iterator[float]:
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            usd = float(dimension["pricePerUnit"].get("USD", 0))
            if dimension.get("beginRange", "0") == "0" and usd:
                yield usd


def _units(price: Price) -> float:
    """AWS tells requests one by one; the table has them by the million."""
    return 10**6 if price.unit == "million" else 1.0
