"""The doctor's estimate: its arithmetic, its source, and prices that are not known."""

import pytest

from byollm.costs import PriceTable
from byollm.doctor import Level
from byollm.doctor.prices import prices
from tests.doctor.support import found, only, patient

TWO = {"endpoint": {"scaling": {"minimum": 2}}}


def test_the_estimate_shows_its_sum_and_how_old_its_prices_are() -> None:
    # Of 730 hours: 2 x $2.25; (0.5 + 0.5) vCPU x $0.04456 + (1 + 2) GB x $0.004865; $0.02475; $0.05
    sum_ = "2 ml.g5.4xlarge $3,285 + Fargate $43 + load balancer $18 + NAT $36 = $3,383 a month"
    only(found(prices, patient(**TWO)), Level.PASS, sum_, "2025-06", "byollm cost estimate")


def test_an_endpoint_that_scales_to_zero_costs_nothing_while_nobody_asks() -> None:
    endpoint = {"endpoint": {"hosting": "component", "scaling": {"minimum": 0}}}
    finding = only(found(prices, patient(**endpoint)), Level.PASS, "Fargate $43 + load")
    assert "ml.g5" not in finding.seen


def test_each_variant_has_a_fleet_of_its_own() -> None:
    variants = {"variants": [{"name": "a"}, {"name": "b"}], "scaling": {"minimum": 1}}
    only(found(prices, patient(endpoint=variants)), Level.PASS, "2 ml.g5.4xlarge $3,285")


def test_more_than_the_budget_is_a_warning() -> None:
    budget = {"observability": {"monthly_budget_usd": 1000}}
    only(found(prices, patient(**TWO, **budget)), Level.WARN, "more than the budget of $1,000")


@pytest.mark.parametrize(
    ("sections", "unknown"),
    [
        (
            {"aws": {"region": "eu-west-1"}, "network": {"zones": ["eu-west-1a", "eu-west-1b"]}},
            "load balancer",
        ),
        ({"endpoint": {"instance_type": "ml.p5.48xlarge"}}, "SageMaker ml.p5.48xlarge"),
    ],
)
def test_what_has_no_price_in_the_region_is_named(sections: dict[str, object], unknown: str) -> None:
    finding = only(found(prices, patient(**sections)), Level.WARN, "no price of", unknown)
    assert "byollm cost refresh" in finding.remedy


def test_every_item_that_the_doctor_asks_for_is_in_the_table() -> None:
    table = PriceTable.load()
    for item in ("Fargate vCPU", "Fargate GB", "load balancer", "NAT gateway", "SageMaker ml.g5.4xlarge"):
        assert table.find(item).unit == "hour"
