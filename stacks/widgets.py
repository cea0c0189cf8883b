"""The pieces of a dashboard, as CloudWatch takes them.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stacks.metrics import Metric

Widget = dict[str, Any]

THIRD, HALF, WHOLE, HEIGHT = 8, 12, 24, 6


def graph(
    title: str, region: str, metrics: Mapping[str, Metric], *, width: int = THIRD, period: int = 60
) -> Widget:
    """Return a graph of metrics by their labels."""
    lines = [
        [
            metric.namespace,
            metric.name,
            *(part for dimension in metric.dimensions.items() for part in dimension),
            {"label": label, "stat": metric.statistic},
        ]
        for label, metric in metrics.items()
    ]
    return _graph(title, region, lines, width, period)


def searched(
    title: str, region: str, search: str, statistic: str, *, width: int = THIRD, period: int = 60
) -> Widget:
    """Return a graph of all metrics that a search finds: what it is about has names that AWS makes up.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/search-expression-syntax.html
    """
    line = {"expression": f"SEARCH('{search}', '{statistic}', {period})"}
    return _graph(title, region, [[line]], width, period)


def alarms(title: str, arns: Sequence[str]) -> Widget:
    """Return the state of alarms."""
    return {
        "type": "alarm",
        "width": WHOLE,
        "height": 3,
        "properties": {"title": title, "alarms": list(arns)},
    }


def text(markdown: str) -> Widget:
    """Return a few words."""
    return {"type": "text", "width": WHOLE, "height": 2, "properties": {"markdown": markdown}}


def _graph(title: str, region: str, lines: list[Any], width: int, period: int) -> Widget:
    return {
        "type": "metric",
        "width": width,
        "height": HEIGHT,
        "properties": {
            "title": title,
            "region": region,
            "view": "timeSeries",
            "stacked": False,
            "period": period,
            "metrics": lines,
        },
    }
