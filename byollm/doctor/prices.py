"""What a quiet month costs, of what stands all month and matters; `byollm cost estimate` has all of it."""

from collections.abc import Iterator

from byollm.costs import HOURS, PriceTable
from byollm.doctor.finding import Finding, passed, warned
from byollm.doctor.patient import Patient
from byollm.settings import Settings

PAGE = "https://aws.amazon.com/pricing/"


def prices(patient: Patient) -> Iterator[Finding]:
    """The prices of what stands all month are known, and within the budget."""
    table, region = PriceTable.load(), patient.settings.aws.region
    lines, items, unknown = dict[str, float](), set[str](), set[str]()
    for name, counts in _standing(patient.settings).items():
        for item, count in counts.items():
            items.add(item)
            price = table.usd(item, region)
            if price is None:
                unknown.add(item)
            else:
                lines[name] = lines.get(name, 0.0) + price * count
    total = sum(lines.values())
    sum_ = " + ".join(f"{name} ${usd:,.0f}" for name, usd in lines.items())
    months = "; ".join(table.told(items))
    seen = f"{sum_} = ${total:,.0f} a month while nobody asks ({months})"
    budget, whole = (
        patient.settings.observability.monthly_budget_usd,
        f"`byollm cost estimate -e {patient.env}`",
    )
    if unknown:
        yield warned(
            f"{seen}; no price of {', '.join(sorted(unknown))} in {region}",
            f"Have AWS tell it: `byollm cost refresh --region {region}`; {whole} then adds up all of it",
            PAGE,
        )
    elif budget is not None and total > budget:
        yield warned(
            f"{seen}; more than the budget of ${budget:,.0f}",
            "Choose smaller or fewer instances, or raise observability.monthly_budget_usd",
            PAGE,
        )
    else:
        yield passed(f"{seen}; {whole} adds up all of it")


def _standing(settings: Settings) -> dict[str, dict[str, float]]:
    """Return what runs all month, by its name: how much of which items of the table."""
    spec, services, network = settings.endpoint, settings.services, settings.network
    tasks = (services.gateway, services.frontend)
    cpus = services.minimum * sum(task.cpu for task in tasks) / 1024
    gib = services.minimum * sum(task.memory_mib for task in tasks) / 1024
    fleet = spec.scaling.minimum * len(spec.variants)
    endpoint = {f"SageMaker {spec.instance_type}": float(fleet * HOURS)}
    return {
        **({f"{fleet} {spec.instance_type}": endpoint} if fleet else {}),
        "Fargate": {"Fargate vCPU": cpus * HOURS, "Fargate GB": gib * HOURS},
        "load balancer": {"load balancer": HOURS},
        **({"NAT": {"NAT gateway": network.nat_gateways * HOURS}} if network.nat_gateways else {}),
    }
