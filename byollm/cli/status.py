"""`byollm status`: what runs on the emulated AWS of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from byollm.local.launch import Running


def status(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    directory: Annotated[
        Path | None, typer.Option(help="Where it keeps everything; by default var/local/<env>.")
    ] = None,
) -> None:
    """Say what is up: the emulated AWS, the stacks, the endpoint, the services. Status 1 if it is not."""
    from rich.console import Console
    from rich.table import Table

    from byollm.cli.here import require

    running = require(env, directory)
    health = running.health()
    state = "ready" if health.get("ready") else health.get("failed", "does not answer")
    table = Table.grid(padding=(0, 3))
    table.add_row("AWS", running.address, str(state))
    table.add_row("", f"region {running.region}, process {running.pid}", str(running.directory))
    if health.get("ready"):
        for row in _rows(running, env):
            table.add_row(*row)
    Console(highlight=False).print(table)
    if not health.get("ready"):
        raise typer.Exit(1)


def _rows(running: "Running", env: str) -> list[tuple[str, str, str]]:
    from byollm.cli.here import client
    from byollm.cli.up import page_address

    def found(service: str, operation: str, key: str, **members: Any) -> list[dict[str, Any]]:
        pages = client(running, service).get_paginator(operation).paginate(**members)
        return [one for page in pages for one in page[key]]

    stacks = found("cloudformation", "describe_stacks", "Stacks")
    rows = [
        ("stack", stack["StackName"], stack["StackStatus"])
        for stack in stacks
        if stack["StackName"].startswith(f"byollm-{env}-")
    ]
    endpoints = found("sagemaker", "list_endpoints", "Endpoints", NameContains=f"byollm-{env}")
    rows += [("endpoint", one["EndpointName"], one["EndpointStatus"]) for one in endpoints]
    page = page_address(running, env)
    if page:
        cluster = f"byollm-{env}"
        arns = found("ecs", "list_services", "serviceArns", cluster=cluster)
        services = client(running, "ecs").describe_services(cluster=cluster, services=arns)["services"]
        rows += [
            ("service", one["serviceName"], f"{one['runningCount']} of {one['desiredCount']} tasks run")
            for one in services
        ]
        rows.append(("page", page, ""))
    return rows
