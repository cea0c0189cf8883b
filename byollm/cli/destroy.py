"""`byollm destroy`: takes an environment away, and proves that nothing is left."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from byollm.doctor.patient import Patient
    from byollm.doctor.remains import Remains

SETTLING_SECONDS, PAUSE_SECONDS = 300.0, 10.0  # AWS's index of tags is minutes behind
NO_IMAGE = "sha256:" + "0" * 64

# What `aws.retain` keeps; a pool of people, and a key without its alias, are found by their tags.
DATA = (
    "bucket",
    "cognito-idp",
    "image repository",
    "key alias",
    "kms",
    "log group",
    "model package group",
    "table",
)


def destroy(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; not for one that keeps its data.")] = False,
    also_data: Annotated[
        bool, typer.Option("--also-data", help="Remove what `aws.retain` keeps as well; asks again.")
    ] = False,
) -> None:
    """Remove an environment from AWS, then search for what is left of it.

    Exits with status 0 only if nothing is left but what the settings keep. One that was interrupted goes on
    when it is run again.
    """
    from pathlib import Path

    from rich.console import Console

    from byollm.aws import explained
    from byollm.doctor import Patient
    from byollm.settings import ByollmError, load_settings

    console = Console(highlight=False)
    patient = Patient.of(env, load_settings(env), model=Path())
    if patient.settings.aws.retain and yes:
        raise ByollmError(f"{env} keeps its data (aws.retain), so its name has to be typed: leave out --yes")
    try:
        with explained():
            left = _destroy(patient, console, yes=yes, also_data=also_data)
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. `byollm destroy --env {env}` goes on where this ended.")
        raise typer.Exit(130) from None
    if left:
        console.print(
            f"[bold red]{len(left)} things are left[/]; run it again, or look at each in the console"
        )
        raise typer.Exit(1)
    console.print(f"[green]Nothing is left of {env} that should not be.[/]")


def _destroy(patient: "Patient", console: "Console", *, yes: bool, also_data: bool) -> "list[Remains]":
    from byollm.cli.cdk import run_cdk
    from byollm.cli.removal import empty_bucket, empty_group, remove, unlock
    from byollm.doctor.remains import remains

    env, aws = patient.env, patient.settings.aws
    _refuse_while_busy(patient)
    found = [each for each in remains(patient) if not each.ending]
    keeps = DATA if aws.retain and not also_data else ()
    _show(console, f"What there is of {env}", found, keeps)
    if not found:
        return []
    if not yes:
        _confirm(env, f"Type {env} to remove it")
        if also_data and aws.retain:
            _confirm(f"{env} and its data", f"Type {env} and its data, which cannot be brought back")
    if any(patient.stacks(region) for region in patient.regions):
        if not keeps:
            for each in found:
                if each.kind == "bucket":
                    console.print(f"emptying {each.name}")
                    empty_bucket(patient, each)
                elif each.kind == "model package group":
                    empty_group(patient, each)
        unlock(patient)
        run_cdk("destroy", "--all", "--force", env=env, aws=aws, variables=_all_stacks(patient))
    if not keeps:
        for each in remove(patient, [each for each in remains(patient) if not each.ending]):
            console.print(f"removed {each.kind} {each.name}")
    return _prove(patient, console, keeps)


def _refuse_while_busy(patient: "Patient") -> None:
    from byollm.settings import ByollmError

    busy = [name for name, status in patient.stacks().items() if status.endswith("_IN_PROGRESS")]
    if busy:
        raise ByollmError(
            f"{', '.join(busy)}: somebody else is changing it, or an interrupted run of yours goes on in "
            "CloudFormation. Wait until it has ended, then try again"
        )


def _confirm(wanted: str, question: str) -> None:
    from byollm.settings import ByollmError

    if typer.prompt(question, default="", show_default=False) != wanted:
        raise ByollmError("that was something else: nothing was removed")


def _all_stacks(patient: "Patient") -> dict[str, str]:
    """Have every stack in the app: those of the services are not where no image is named."""
    images = patient.settings.images.model_dump()
    return {f"BYOLLM__IMAGES__{name.upper()}": digest or NO_IMAGE for name, digest in images.items()}


def _prove(patient: "Patient", console: "Console", keeps: Iterable[str]) -> "list[Remains]":
    """Search until nothing is left that should not be, or what is left does not go away; return that."""
    from byollm.doctor.remains import remains

    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        found = remains(patient)
        left = [each for each in found if each.kind not in keeps and not each.ending]
        # Only what its tag alone tells of may be gone already.
        settled = any(not each.name.startswith("arn:") for each in left)
        if not left or settled or patient.emulated or time.monotonic() > deadline:
            _show(console, f"What is left of {patient.env}", found, keeps)
            return left
        console.print(f"{len(left)} things are still in AWS's index of tags; looking again")
        time.sleep(PAUSE_SECONDS)


def _show(console: "Console", title: str, found: "Iterable[Remains]", keeps: Iterable[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("kind", "name", "", title=title, title_justify="left", box=None, padding=(0, 1))
    table.columns[1].overflow = "fold"
    for each in found:
        note = each.ending or ("kept: aws.retain" if each.kind in keeps else "")
        table.add_row(each.kind, Text(each.name), note)
    console.print(table if table.row_count else f"{title}: nothing")
