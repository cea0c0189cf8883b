"""Dashboards show what there is: every function, every variant, every alarm, and what is spent."""

import json
from typing import Any

import pytest

from byollm.settings import load_settings
from tests.stacks.support import Synthesis, resolved
from tests.stacks.test_functions import functions


def widgets(synthesis: Synthesis, dashboard: str) -> dict[str, dict[str, Any]]:
    """What one dashboard shows, by title."""
    found = {
        each["DashboardName"]: json.loads(resolved(each["DashboardBody"]))["widgets"]
        for each in synthesis.of("dashboards", "AWS::CloudWatch::Dashboard").values()
    }
    shown = found[f"byollm-{synthesis.env}-{dashboard}"]
    return {each["properties"].get("title", each["type"]): each["properties"] for each in shown}


@pytest.mark.parametrize("dashboard", ["platform", "model", "cost"])
def test_every_line_is_a_metric_or_a_search(synthesis: Synthesis, dashboard: str) -> None:
    for title, properties in widgets(synthesis, dashboard).items():
        for line in properties.get("metrics", []):
            if len(line) == 1:
                assert line[0]["expression"].startswith("SEARCH('{"), title
            else:
                *names, rendering = line
                assert len(names) >= 4, title
                assert len(names) % 2 == 0, "namespace, name, and pairs of dimension and value"
                assert set(rendering) == {"label", "stat"}


def test_the_platform_shows_every_function(synthesis: Synthesis) -> None:
    errors = widgets(synthesis, "platform")["Functions: errors"]["metrics"]
    assert {line[3] for line in errors} == {f"byollm-{synthesis.env}-{name}" for name in functions(synthesis)}


def test_the_model_shows_every_alarm_that_guards_it(synthesis: Synthesis) -> None:
    shown = {arn.rpartition(":")[2] for arn in widgets(synthesis, "model")["Alarms"]["alarms"]}
    made = {
        alarm["AlarmName"]
        for alarm in synthesis.of("inference", "AWS::CloudWatch::Alarm").values()
        if "-guard-" in alarm["AlarmName"]
    }
    assert shown == made != set()


def test_the_model_shows_calls_as_its_hosting_counts_them(dev: Synthesis, prod: Synthesis) -> None:
    for synthesis in (dev, prod):
        (line, *_) = widgets(synthesis, "model")["Calls"]["metrics"]
        component = load_settings(synthesis.env).endpoint.hosting == "component"
        assert line[2] == ("InferenceComponentName" if component else "EndpointName")


def test_costs_are_read_where_aws_publishes_them_beside_the_budget(dev: Synthesis, prod: Synthesis) -> None:
    assert "5000 US dollars" in widgets(prod, "cost")["text"]["markdown"]
    assert "No budget" in widgets(dev, "cost")["text"]["markdown"]
    (charges,) = [
        each for title, each in widgets(prod, "cost").items() if title.startswith("Charges of the account")
    ]
    assert charges["region"] == "us-east-1"


def test_dashboards_hold_on_to_no_other_stack(synthesis: Synthesis) -> None:
    assert "Fn::ImportValue" not in json.dumps(synthesis.templates["dashboards"])
