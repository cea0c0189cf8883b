"""`byollm logs`: what a part of the emulated AWS said."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from byollm.local.launch import Running

CLOUD = "cloud"
HOSTED = ("Endpoints", "InferenceComponents")
EVERY_SECONDS = 0.5
LINES = 200  # of a file, from its end


def logs(
    name: Annotated[
        str,
        typer.Argument(
            help="endpoint, gateway, frontend, cloud (the emulated AWS itself), a function or a training job."
        ),
    ],
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    directory: Annotated[
        Path | None, typer.Option(help="Where it keeps everything; by default var/local/<env>.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print what a part of the emulated AWS said."""
    from byollm.cli.here import place
    from byollm.local.launch import Running

    where = place(env, directory)
    running = Running.find(where)
    group = _group(running, env, name) if running else None
    try:
        if running and group:
            _print_group(running, group, follow)
        else:
            _print_files(where / "logs", env, name, follow)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _group(running: "Running", env: str, name: str) -> str | None:
    """Return the log group of the function `name`; None where it is no function."""
    from byollm.cli.here import client

    functions = client(running, "lambda").get_paginator("list_functions").paginate()
    known = {one["FunctionName"] for page in functions for one in page["Functions"]}
    full = next((one for one in (name, f"byollm-{env}-{name}") if one in known), None)
    if full is None:
        return None
    described = client(running, "lambda").get_function_configuration(FunctionName=full)
    return str(described.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{full}")


def _print_group(running: "Running", group: str, follow: bool) -> None:
    from byollm.cli.here import client

    watch = client(running, "logs")
    since, seen = 0, set[tuple[str, int, str]]()
    while True:
        pages = watch.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=since)
        for event in (event for page in pages for event in page["events"]):
            known = (event["logStreamName"], event["timestamp"], event["message"])
            if known not in seen:
                seen.add(known)
                since = max(since, event["timestamp"])
                typer.echo(event["message"].rstrip())
        if not follow:
            return
        time.sleep(EVERY_SECONDS)


def _print_files(folder: Path, env: str, name: str, follow: bool) -> None:
    """Print the ends of the files that are about `name`, and what is added to them.

    Raises:
        LocalError: there are none.
    """
    from byollm.local.launch import LocalError, tail

    places: dict[Path, int] = {}
    while True:
        for file in _files(folder, env, name):
            end = file.stat().st_size
            if file not in places and not follow:
                typer.echo(tail(file, LINES))
            elif file not in places:
                typer.echo(tail(file))
            elif end > places[file]:
                with file.open("rb") as opened:
                    opened.seek(places[file])
                    typer.echo(opened.read().decode(errors="replace"), nl=False)
            places[file] = end
        if not places:
            raise LocalError(f"nothing in {folder} is about {name!r}: {_known(folder)}")
        if not follow:
            return
        time.sleep(EVERY_SECONDS)


def _files(folder: Path, env: str, name: str) -> list[Path]:
    if name == CLOUD:
        return sorted(folder.glob("*.log"))
    wanted = f"byollm-{env}" if name == "endpoint" else name
    under = [folder / "aws" / "sagemaker" / kind for kind in HOSTED] if name == "endpoint" else [folder]
    files = (file for place in under for file in place.rglob("*.log") if file.parent != folder)
    return sorted(file for file in files if wanted in str(file.relative_to(folder)))


def _known(folder: Path) -> str:
    found = sorted({str(file.parent.relative_to(folder)) for file in folder.rglob("*.log")} - {"."})
    return f"there is {', '.join([CLOUD, *found])}"
