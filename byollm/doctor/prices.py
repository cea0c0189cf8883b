"""List prices from a table of the data directory, and what a quiet month costs by them."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session

from byollm.doctor.finding import Finding, failed, passed, warned
from byollm.doctor.patient import Patient
from byollm.settings import ByollmError, Settings

TABLES = "aws-prices-*.tar.xz"
HOURS = 730  # of a month, as AWS counts
PAGE = "https://aws.amazon.com/pricing/"
LARGEST_BYTES = 64 * 2**20
LEFT_OUT = "without requests, storage, NAT gateways and interface endpoints"


class PricesError(ByollmError):
    """A table of prices cannot be read."""


class Prices:
    """List prices in US dollars of one region, as an archive of the data directory has them.

    Args:
        archive: JSON files of prices by service, unit and place; its name ends in the month they are of.
        region: whose prices.

    Raises:
        PricesError: it is no such archive.
    """

    def __init__(self, archive: Path, region: str) -> None:
        self.archive = archive
        self.month = re.sub(r"^aws-prices-|\.tar\.xz$", "", archive.name)
        self._place = _place(region)
        try:
            with tarfile.open(archive) as tar:
                self._tables = {Path(file.name).name: _table(tar, file) for file in tar if file.isfile()}
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            raise PricesError(f"{archive} is no table of prices: {error}") from None

    def instance(self, instance_type: str) -> float | None:
        """An hour of an instance of SageMaker, or None where the table has none.

        The table has the prices of notebooks, which are those of hosting too.
        """
        asked = f"{self._place} (Instance: {instance_type},"
        for prices in self._tables.get("sagemaker-instances-studionotebook.json", {}).values():
            for name, price in prices.items():
                if name.startswith(asked):
                    return float(price)
        return None

    def unit(self, file: str, unit: str) -> float | None:
        """One unit, such as `Application Load Balancer Hours` of `elb.json`; None where there is none."""
        price = self._tables.get(file, {}).get(unit, {}).get(self._place)
        return None if price is None else float(price)


def prices(patient: Patient) -> Iterator[Finding]:
    """The prices of what stands all month are known, and within the budget."""
    directory = patient.settings.data.directory
    archives = sorted(directory.glob(TABLES))
    if not archives:
        yield warned(
            f"no table of prices ({TABLES}) in {directory}, so no estimate",
            "Set data.directory to where one is",
            PAGE,
        )
        return
    try:
        table = Prices(archives[-1], patient.settings.aws.region)
    except PricesError as error:
        yield failed(str(error), "Replace the file", PAGE)
        return
    lines = dict(_month(patient.settings, table))
    unknown = [name for name, cost in lines.items() if cost is None]
    total = sum(cost for cost in lines.values() if cost is not None)
    source = f"list prices of {table.month} ({table.archive.name}), {LEFT_OUT}"
    sum_ = " + ".join(f"{name} ${cost:,.0f}" for name, cost in lines.items() if cost is not None)
    seen = f"{sum_} = ${total:,.0f} a month while nobody asks; {source}"
    budget = patient.settings.observability.monthly_budget_usd
    if unknown:
        yield warned(f"{seen}; no price of {', '.join(unknown)} in it", "Look it up", PAGE)
    elif budget is not None and total > budget:
        yield warned(
            f"{seen}; more than the budget of ${budget:,.0f}",
            "Choose smaller or fewer instances, or raise observability.monthly_budget_usd",
            PAGE,
        )
    else:
        yield passed(seen)


def _month(settings: Settings, table: Prices) -> Iterator[tuple[str, float | None]]:
    """Yield what runs all month: the smallest fleet and the smallest services."""
    spec, services = settings.endpoint, settings.services
    if spec.scaling.minimum:
        hour = table.instance(spec.instance_type)
        instances = f"{spec.scaling.minimum} {spec.instance_type}"
        yield instances, None if hour is None else hour * spec.scaling.minimum * HOURS
    tasks = (services.gateway, services.frontend)
    cpus = services.minimum * sum(task.cpu for task in tasks) / 1024
    gib = services.minimum * sum(task.memory_mib for task in tasks) / 1024
    cpu_hour, gib_hour = table.unit("ecs.json", "perCPU per hour"), table.unit("ecs.json", "perGB per hour")
    known = cpu_hour is not None and gib_hour is not None
    yield "Fargate", (cpus * (cpu_hour or 0) + gib * (gib_hour or 0)) * HOURS if known else None
    balancer = table.unit("elb.json", "Application Load Balancer Hours")
    yield "load balancer", None if balancer is None else balancer * HOURS


def _table(tar: tarfile.TarFile, file: tarfile.TarInfo) -> dict[str, dict[str, Any]]:
    if file.size > LARGEST_BYTES:
        raise ValueError(f"{file.name} is larger than {LARGEST_BYTES} bytes")
    stream = tar.extractfile(file)
    content = json.load(stream) if stream else None
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} holds no prices")
    return content


def _place(region: str) -> str:
    """Name a region as price lists do: eu-west-1 is `EU (Ireland)`."""
    loader = botocore.session.get_session().get_component("data_loader")
    partitions = loader.load_data("endpoints")["partitions"]
    regions = {name: each["description"] for part in partitions for name, each in part["regions"].items()}
    return str(regions.get(region, region)).replace("Europe", "EU")
