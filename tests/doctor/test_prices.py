"""The estimate: its arithmetic, its source, and tables that are none."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from byollm.doctor import Level
from byollm.doctor.prices import prices
from tests.doctor.support import found, only, patient

NOTEBOOK = "Canada (Central) (Instance: ml.g5.4xlarge, Component: Studio-Notebook, VCPU: 16)"
TABLES = {
    "sagemaker-instances-studionotebook.json": {"[Accelerated]": {NOTEBOOK: "2.0000000000"}},
    "ecs.json": {
        "perCPU per hour": {"Canada (Central)": "0.04"},
        "perGB per hour": {"Canada (Central)": "0.004"},
    },
    "elb.json": {"Application Load Balancer Hours": {"Canada (Central)": "0.02", "US East (Ohio)": "9"}},
}


def write(directory: Path, tables: dict[str, Any], month: str = "2025-06") -> None:
    with tarfile.open(directory / f"aws-prices-{month}.tar.xz", "w:xz") as tar:
        for name, table in tables.items():
            content = json.dumps(table).encode()
            entry = tarfile.TarInfo(f"aws-prices/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def settings(directory: Path, **more: Any) -> dict[str, Any]:
    return {"data": {"directory": str(directory)}, "endpoint": {"scaling": {"minimum": 2}}, **more}


def test_no_table_is_a_warning(tmp_path: Path) -> None:
    only(found(prices, patient(**settings(tmp_path))), Level.WARN, "no table of prices", str(tmp_path))


def test_the_estimate_shows_its_sum_and_the_newest_source(tmp_path: Path) -> None:
    write(tmp_path, {}, "2024-01")
    write(tmp_path, TABLES)
    # 2 instances x $2 x 730; (0.5 + 0.5 CPU) x $0.04 x 730 + (1 + 2 GiB) x $0.004 x 730; $0.02 x 730
    sum_ = "2 ml.g5.4xlarge $2,920 + Fargate $38 + load balancer $15 = $2,973 a month"
    only(found(prices, patient(**settings(tmp_path))), Level.PASS, sum_, "2025-06")


def test_an_endpoint_that_scales_to_zero_costs_nothing_while_nobody_asks(tmp_path: Path) -> None:
    write(tmp_path, TABLES)
    endpoint = {"hosting": "component", "scaling": {"minimum": 0}}
    only(
        found(prices, patient(**settings(tmp_path) | {"endpoint": endpoint})),
        Level.PASS,
        "Fargate $38 + load",
    )


def test_more_than_the_budget_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, TABLES)
    budget = {"observability": {"monthly_budget_usd": 1000}}
    only(found(prices, patient(**settings(tmp_path, **budget))), Level.WARN, "more than the budget of $1,000")


def test_what_has_no_price_in_the_region_is_named(tmp_path: Path) -> None:
    write(tmp_path, TABLES | {"elb.json": {}})
    only(found(prices, patient(**settings(tmp_path))), Level.WARN, "no price of load balancer")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\xfd7zXZ\x00\x00\x00"])
def test_a_broken_table_fails_without_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "aws-prices-2025-06.tar.xz").write_bytes(content)
    only(found(prices, patient(**settings(tmp_path))), Level.FAIL, "no table of prices")


def test_tables_of_another_form_fail_or_have_no_price(tmp_path: Path) -> None:
    write(tmp_path, {"elb.json": []})
    only(found(prices, patient(**settings(tmp_path))), Level.FAIL, "elb.json")
