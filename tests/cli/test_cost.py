"""`byollm cost` on the real app, and with settings and prices that are wrong."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from byollm.aws import Clients
from byollm.cli import cost
from byollm.cli.main import app
from byollm.costs import table
from tests.stacks.snapshots import read


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["cost", *arguments])


@pytest.fixture
def synthesised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates as they were last committed, in place of a synth."""
    templates = read("dev") | {"services": read("whole")["services"]}
    monkeypatch.setattr(cost, "_templates", lambda env, settings: templates)


def test_the_real_app_is_synthesised_with_its_services_and_added_up() -> None:
    ran = run("estimate", "--env", "dev", "--json")
    assert ran.exit_code == 0, ran.exception
    found = json.loads(ran.stdout)
    stacks = {line["stack"] for line in found["idle"]["lines"]}
    assert {"network", "services", "inference", "keys"} <= stacks
    assert found["idle"]["usd"] == pytest.approx(
        sum(line["usd"] for line in found["idle"]["lines"]), abs=0.01
    )
    assert found["loaded"]["usd"] > found["idle"]["usd"] > 100


@pytest.mark.usefixtures("synthesised")
def test_it_shows_the_arithmetic_the_sources_and_the_claims() -> None:
    ran = run("estimate", "--requests", "1000", "--seconds", "2", "--hours", "10")
    assert ran.exit_code == 0, ran.exception
    for words in (
        "1,000 requests of 2 s",
        "Left out:",
        "2025-06",
        "$7 a month",
        "$3,300",
        "$2.03 in us-east-1",
    ):
        assert words in ran.stdout


@pytest.mark.parametrize(
    "options", [("--requests", "-1"), ("--seconds", "0"), ("--hours", "731"), ("--seconds", "481")]
)
def test_a_load_that_cannot_be_is_refused(options: tuple[str, str]) -> None:
    assert run("estimate", *options).exit_code == 2


def test_an_environment_that_is_not_there_is_refused_in_words() -> None:
    ran = run("estimate", "--env", "nowhere")
    assert ran.exit_code == 1
    assert "nowhere" in str(ran.exception)


def test_a_synth_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    ran = run("estimate")
    assert ran.exit_code == 1
    assert "dev cannot be synthesised" in str(ran.exception)


def test_a_refresh_keeps_what_aws_does_not_tell_and_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy, whole = tmp_path / "prices.json", table.SHIPPED.read_text()
    copy.write_text(whole)
    monkeypatch.setattr(table, "SHIPPED", copy)
    silent = SimpleNamespace(
        get_paginator=lambda name: SimpleNamespace(paginate=lambda **given: [{"PriceList": []}])
    )
    monkeypatch.setattr(Clients, "client", lambda self, service: silent)
    ran = run("refresh", "--region", "eu-west-1")
    assert ran.exit_code == 0, ran.exception
    assert "not told: load balancer in eu-west-1" in ran.stdout
    assert "0 of" in ran.stdout
    assert copy.read_text() == whole
