"""The table is made anew from what AWS tells; an unmodified client asks, and its answers are planted."""

import json
from datetime import date
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from byollm.costs import Price, PriceTable
from byollm.costs.refresh import refreshed

TODAY = date(2026, 11, 22)
REGIONS = ("ca-central-1", "us-east-1")


def product(usage: str, *tiers: tuple[str, str]) -> str:
    dimensions = {
        str(number): {"beginRange": begin, "pricePerUnit": {"USD": usd}}
        for number, (begin, usd) in enumerate(tiers)
    }
    attributes = {"usagetype": usage}
    terms = {"OnDemand": {"t": {"priceDimensions": dimensions}}}
    return json.dumps({"product": {"attributes": attributes}, "terms": terms})


def client(answers: dict[str, list[str]]) -> Any:
    """Return boto3's client, to which AWS tells these products of each region."""
    made = boto3.session.Session("test", "test").client("pricing", "us-east-1")

    def answer(params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        asked = json.loads(params["body"])
        (region,) = (each["Value"] for each in asked["Filters"] if each["Field"] == "regionCode")
        return SimpleNamespace(status_code=200), {"PriceList": answers.get(region, [])}

    made.meta.events.register("before-call.pricing.GetProducts", answer)
    return made


def table(**more: Any) -> PriceTable:
    nat = {
        "item": "NAT gateway",
        "unit": "hour",
        "usd": {"ca-central-1": 0.01},
        "source": "old",
        "asked": {"service": "AmazonEC2", "usage": "NatGateway-Hours"},
    }
    sources = {"old": {"what": "a page", "month": "2020-01"}}
    return PriceTable.model_validate({"sources": sources, "prices": [nat | more]})


def only(found: PriceTable) -> Price:
    (price,) = found.prices
    return price


def test_what_aws_tells_takes_the_place_of_what_was_known_with_its_month() -> None:
    told = {
        "ca-central-1": [product("CAN1-NatGateway-Hours", ("0", "0.05")), product("CAN1-NatGateway-Hours-X")],
        "us-east-1": [product("NatGateway-Hours", ("0", "0.045"))],
    }
    new, missing = refreshed(table(), client(told), REGIONS, TODAY)
    assert only(new).usd == {"ca-central-1": 0.05, "us-east-1": 0.045}
    assert new.sources[only(new).source].month == "2026-11"
    assert "old" not in new.sources
    assert not missing


def test_of_tiers_the_first_is_taken_and_millions_are_counted() -> None:
    told = {"us-east-1": [product("NatGateway-Hours", ("0", "0.0000006"), ("1000", "0.0000001"))]}
    old = table(unit="million", usd={})
    new, _ = refreshed(old, client(told), ["us-east-1"], TODAY)
    assert only(new).usd["us-east-1"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    "products",
    [
        [],
        [product("CAN1-OtherNatGateway-Hours", ("0", "9"))],
        [product("CAN1-NatGateway-Hours", ("0", "1")), product("USW2-NatGateway-Hours", ("0", "2"))],
        [product("CAN1-NatGateway-Hours", ("0", "0"))],
    ],
    ids=["nothing", "another usage", "two prices", "free"],
)
def test_what_is_not_told_plainly_stays_and_is_named(products: list[str]) -> None:
    new, missing = refreshed(table(), client({"ca-central-1": products}), ["ca-central-1"], TODAY)
    assert new == table()
    assert missing == ["NAT gateway in ca-central-1"]


def test_a_region_that_was_known_is_not_lost_when_another_is_asked_for() -> None:
    told = {"us-east-1": [product("NatGateway-Hours", ("0", "0.045"))]}
    new, _ = refreshed(table(), client(told), ["us-east-1"], TODAY)
    assert only(new).usd["ca-central-1"] == 0.01
