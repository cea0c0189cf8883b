"""The shipped table of prices, and files that are none."""

from pathlib import Path

import pytest

from byollm.costs import PricesError, PriceTable
from byollm.costs.table import SHIPPED
from byollm.settings.instances import INSTANCE_TYPES


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return PriceTable.load()


def test_every_price_has_a_source_a_month_and_a_sensible_amount(table: PriceTable) -> None:
    for price in table.prices:
        assert table.sources[price.source].month
        assert all(0 < usd < 200 for usd in price.usd.values()), price


def test_every_instance_type_that_an_endpoint_may_name_can_be_asked_for(table: PriceTable) -> None:
    for kind in INSTANCE_TYPES:
        assert table.find(f"SageMaker {kind}").asked.match["instanceName"] == kind


def test_the_price_that_the_seeds_name_is_the_tables(table: PriceTable) -> None:
    assert table.usd("SageMaker ml.g5.4xlarge", "us-east-1") == 2.03


def test_a_price_that_is_not_there_is_none_and_an_unknown_item_is_an_error(table: PriceTable) -> None:
    assert table.usd("load balancer", "mars-north-1") is None
    with pytest.raises(PricesError, match="teapot"):
        table.find("teapot")


def test_a_table_comes_back_as_it_was_written(table: PriceTable, tmp_path: Path) -> None:
    copy = tmp_path / "prices.json"
    table.save(copy)
    assert copy.read_text() == SHIPPED.read_text()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"sources": {}, "prices": [{"item": 1}]}'])
def test_a_file_that_is_no_table_is_refused_in_words(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_bytes(content)
    with pytest.raises(PricesError, match="prices"):
        PriceTable.load(path)


def test_a_file_that_is_absent_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(PricesError, match="cannot be read"):
        PriceTable.load(tmp_path / "none.json")
