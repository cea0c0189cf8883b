"""`byollm cost`: what an environment costs by list prices."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from byollm.costs import Estimate, Load, PriceTable
    from byollm.settings import Settings

app = typer.Typer(help="What an environment costs, by list prices.", no_args_is_help=True)

ZEROS = "sha256:" + "0" * 64
"""Stands for an image that is not there yet: it costs nothing, and what runs on it does."""


@app.command()
def estimate(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    requests: Annotated[int, typer.Option(min=0, help="Requests of the month.")] = 100_000,
    seconds: Annotated[float, typer.Option(min=0.001, max=480, help="The model takes for each.")] = 5.0,
    hours: Annotated[
        float, typer.Option(min=1, max=730, help="Hours of the month that they come in.")
    ] = 240.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Synthesise an environment and add up its month: idle, and at the load that the options state.

    Needs no account. `byollm cost refresh` has the prices anew.
    """
    from byollm.costs import Load, PriceTable
    from byollm.costs import estimate as add_up
    from byollm.settings import load_settings

    settings, table = load_settings(env), PriceTable.load()
    load = Load(requests=requests, seconds=seconds, hours=hours)
    templates = _templates(env, settings)
    idle, loaded = (add_up(templates, settings, table, each) for each in (None, load))
    if as_json:
        typer.echo(_json(env, settings, load, idle, loaded))
    else:
        _show(env, settings, load, idle, loaded, table)


@app.command()
def refresh(
    region: Annotated[
        list[str] | None, typer.Option("--region", help="A region beside those that the table has.")
    ] = None,
) -> None:
    """Ask AWS's Price List API for every price of the table, and write down what it tells.

    Needs credentials with `pricing:GetProducts`, of any account.
    """
    from datetime import UTC, datetime

    from byollm.aws import Clients, explained
    from byollm.costs import PriceTable
    from byollm.costs.refresh import HOME, refreshed

    table = PriceTable.load()
    regions = sorted({name for price in table.prices for name in price.usd}.union(region or ()))
    with explained():
        new, missing = refreshed(table, Clients(HOME).client("pricing"), regions, datetime.now(UTC).date())
    new.save()
    for each in missing:
        typer.echo(f"not told: {each}")
    changed = sum(old.usd != now.usd for old, now in zip(table.prices, new.prices, strict=True))
    typer.echo(f"{changed} of {len(new.prices)} prices changed")


def _templates(env: str, settings: "Settings") -> dict[str, Any]:
    """Synthesise the app, its services in it, and return the templates by the role of their stack.

    Raises:
        ByollmError: the synth fails.
    """
    import json
    import os
    import subprocess
    import sys
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from byollm.settings import REPOSITORY, ByollmError

    context = json.loads((REPOSITORY / "cdk.json").read_text())["context"] | {"env": env}
    images = settings.images.model_dump()
    told = {f"BYOLLM__IMAGES__{name.upper()}": digest or ZEROS for name, digest in images.items()}
    with TemporaryDirectory(prefix="byollm-cost-") as directory:
        told |= {"CDK_OUTDIR": directory, "CDK_CONTEXT_JSON": json.dumps(context)}
        line = [sys.executable, "app.py"]
        ran = subprocess.run(
            line, cwd=REPOSITORY, env=os.environ | told, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            said = ran.stderr[-2000:].strip()
            raise ByollmError(
                f"{env} cannot be synthesised; `make synth ENV={env}` has what it takes:\n{said}"
            )
        prefix, suffix = f"byollm-{env}-", ".template.json"
        return {
            path.name.removeprefix(prefix).removesuffix(suffix): json.loads(path.read_text())
            for path in sorted(Path(directory).glob(f"{prefix}*{suffix}"))
        }


def _show(
    env: str,
    settings: "Settings",
    load: "Load",
    idle: "Estimate",
    loaded: "Estimate",
    table: "PriceTable",
) -> None:
    from rich.console import Console
    from rich.table import Table

    from byollm.costs import claims
    from byollm.costs.estimate import LEFT_OUT

    console = Console(highlight=False, soft_wrap=True)
    rows = Table("stack", "what", "how many a month", box=None, padding=(0, 1))
    for name in ("a unit", "idle", "at the load"):
        rows.add_column(name, justify="right")
    quiet = {(line.stack, line.item, line.how): line for line in idle.lines}
    busy = {(line.stack, line.item, line.how): line for line in loaded.lines}
    for key in sorted(quiet | busy):
        line = busy.get(key) or quiet[key]
        price = "no price" if line.price is None else f"${line.price:g}/{line.unit}"
        cells = [f"${each[key].usd:,.2f}" if key in each else "" for each in (quiet, busy)]
        rows.add_row(line.stack, line.item, line.how, price, *cells)
    for stack in sorted(loaded.stacks):
        sums = [f"${each.stacks.get(stack, 0):,.2f}" for each in (idle, loaded)]
        rows.add_row(f"[bold]{stack}[/]", "", "", "", *(f"[bold]{usd}[/]" for usd in sums))
    rows.add_row("[bold]all[/]", "", "", "", f"[bold]${idle.usd:,.2f}[/]", f"[bold]${loaded.usd:,.2f}[/]")
    console.print(f"[bold]{env}[/] in {settings.aws.region}, US dollars a month")
    console.print(rows)
    console.print(
        f"\nThe load: {load.requests:,} requests of {load.seconds:g} s, evenly over {load.hours:g} hours, "
        f"{load.asked_bytes:,} bytes there and {load.answered_bytes:,} back."
    )
    console.print(f"Left out: {LEFT_OUT}.")
    if loaded.unknown:
        console.print(f"[yellow]No price of {', '.join(loaded.unknown)} in {settings.aws.region}[/]")
    for source in table.told({line.item for line in loaded.lines}):
        console.print(f"Prices: {source}.")
    console.print("\n[bold]What the projects that this one began from claimed[/]")
    for claim, here in claims(idle, loaded, table, settings.aws.region):
        console.print(f"  {claim}\n    here: {here}")


def _json(env: str, settings: "Settings", load: "Load", idle: "Estimate", loaded: "Estimate") -> str:
    import json
    from dataclasses import asdict

    def written(estimate: "Estimate") -> dict[str, Any]:
        lines = [asdict(line) | {"usd": round(line.usd, 4)} for line in estimate.lines]
        return {"usd": round(estimate.usd, 2), "unknown": estimate.unknown, "lines": lines}

    known = {"environment": env, "region": settings.aws.region, "load": load.model_dump()}
    return json.dumps(known | {"idle": written(idle), "loaded": written(loaded)}, indent=2)
