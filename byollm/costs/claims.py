"""What the projects that this one began from claimed to cost, beside what this one does by the same table."""

from byollm.costs.estimate import Estimate
from byollm.costs.line import HOURS
from byollm.costs.table import PriceTable

IDLE_USD, MONTH_USD, COMMERCIAL_USD = 7, 287, 3300
INSTANCE, HOUR_USD, REGION = "ml.g5.4xlarge", 2.03, "us-east-1"


def claims(idle: Estimate, loaded: Estimate, table: PriceTable, region: str) -> list[tuple[str, str]]:
    """Return each claim with what there is to say of it here.

    Args:
        idle: the month in which nobody asks.
        loaded: the month of the stated load.
        table: the prices.
        region: of the environment.
    """
    largest = sorted(idle.stacks.items(), key=lambda stack: stack[1], reverse=True)[:3]
    most = " + ".join(f"{stack} ${usd:,.0f}" for stack, usd in largest)
    there, here = table.usd(f"SageMaker {INSTANCE}", REGION), table.usd(f"SageMaker {INSTANCE}", region)
    hour = f"${there:.2f} in {REGION}" if there is not None else f"no price in {REGION}"
    if here is not None:
        hour += f", ${here:.2f} in {region}; {HOURS} h are ${here * HOURS:,.0f}"
    share = f"{loaded.usd / COMMERCIAL_USD:.0%}"
    return [
        (
            f"${IDLE_USD} a month for idle infrastructure",
            f"${idle.usd:,.0f}: {most} are most of it. A load balancer alone is more than ${IDLE_USD}",
        ),
        (
            f"${MONTH_USD} a month against ${COMMERCIAL_USD:,} of commercial APIs "
            f"({MONTH_USD / COMMERCIAL_USD:.0%})",
            f"${loaded.usd:,.0f} at the stated load, {share} of ${COMMERCIAL_USD:,}; the claim counts no GPU",
        ),
        (f"${HOUR_USD} an hour for {INSTANCE}", hour),
    ]
