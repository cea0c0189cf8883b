"""The estimate of one environment: lines, their sums by stack, and what is left out."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from byollm.costs import load as by_load
from byollm.costs.fixed import Count, standing
from byollm.costs.line import Line
from byollm.costs.load import Load
from byollm.costs.table import PriceTable, Template
from byollm.settings import Settings

LEFT_OUT = (
    "images, logs and documents kept, training jobs, builds, functions, tables, Container Insights, "
    "requests of S3 and KMS, free tiers, taxes"
)
COPIES = "models-"  # what the roles of stacks in further regions begin with


@dataclass(frozen=True)
class Estimate:
    """What a month costs.

    Args:
        lines: all there is, by stack.
    """

    lines: tuple[Line, ...]

    @property
    def usd(self) -> float:
        """All of it, of what has a price."""
        return sum(line.usd for line in self.lines)

    @property
    def stacks(self) -> dict[str, float]:
        """The sum of each stack."""
        return {
            stack: sum(line.usd for line in self.lines if line.stack == stack)
            for stack in dict.fromkeys(line.stack for line in self.lines)
        }

    @property
    def unknown(self) -> list[str]:
        """What has no price in the table."""
        return sorted({line.item for line in self.lines if line.price is None})


def estimate(
    templates: Mapping[str, Template], settings: Settings, table: PriceTable, load: Load | None = None
) -> Estimate:
    """Add up what the templates of an environment cost in a month.

    Args:
        templates: by the role of their stack, such as `network`.
        settings: of the environment.
        table: the prices.
        load: what is asked in that month; None: nothing.
    """
    return Estimate(tuple(_lines(templates, settings, table, load)))


def _lines(
    templates: Mapping[str, Template], settings: Settings, table: PriceTable, load: Load | None
) -> Iterator[Line]:
    for role in sorted(templates):
        region = role.removeprefix(COPIES) if role.startswith(COPIES) else settings.aws.region
        counts = list(standing(templates[role]))
        if role == "inference":
            counts += by_load.endpoint(settings, load)
        if role == "storage" or role.startswith(COPIES):
            counts += by_load.storage(settings)
        if role == "services" and load:
            counts += [*by_load.tasks(settings, load), *by_load.traffic(settings, load)]
        for item, count, how in _together(counts):
            unit = table.find(item).unit if table.usd(item, region) is not None else ""
            price = table.usd(item, region)
            yield Line(stack=role, item=item, count=count, unit=unit, price=price, how=how)


def _together(counts: Iterable[Count]) -> Iterator[Count]:
    """Add up what is of one item and counted alike: 26 alarms are a line."""
    alike: dict[tuple[str, str], list[float]] = {}
    for item, count, how in counts:
        alike.setdefault((item, how), []).append(count)
    for (item, how), each in alike.items():
        yield item, sum(each), f"{len(each)} x {how}" if len(each) > 1 else how
