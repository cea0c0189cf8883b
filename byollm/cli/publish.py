"""`byollm publish`: a model goes to S3 and is released by the state machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from byollm.doctor.patient import Patient


def publish(
    model: Annotated[
        Path | None, typer.Argument(help="Model directory; by default the one in the repository.")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    variant: Annotated[str, typer.Option(help="Variant of the endpoint that it is for.")] = "main",
) -> None:
    """Upload a model, then register, deploy, try and approve it; if that fails, the last one comes back.

    What is there already is not uploaded again; a release of just this that is under way is followed.
    """
    from rich.console import Console

    from byollm.aws import explained
    from byollm.cli.doctor import bundled_model
    from byollm.doctor import Patient
    from byollm.settings import load_settings

    console = Console(highlight=False)
    patient = Patient.of(env, load_settings(env), model or bundled_model())
    try:
        with explained():
            publish_model(patient, console, patient.settings.images.inference, variant=variant)
    except KeyboardInterrupt:
        console.print("\nInterrupted. A release that has begun goes on; run it again to follow it.")
        raise typer.Exit(130) from None


def publish_model(
    patient: "Patient", console: "Console", inference: str | None, *, variant: str = "main"
) -> None:
    """Upload the model of `patient` and release it on the inference image of that digest.

    Args:
        patient: the environment, and the model.
        console: shows how it goes.
        inference: digest of the image; by default that of the image that was pushed last.
        variant: the variant of the endpoint that it is for.

    Raises:
        ByollmError: it is no model, something is missing in AWS, or the release failed.
    """
    from byollm.cli.images import address, newest
    from byollm.cli.release import release

    image = address(patient, "inference", inference or newest(patient, "inference"))
    release(patient, console, image=image, model=_upload(patient, console), variant=variant)


def _upload(patient: "Patient", console: "Console") -> str:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from byollm.aws import Clients
    from byollm.lifecycle import ModelFolder

    folder, bucket = ModelFolder.read(patient.model), _bucket(patient)
    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=folder.size)
        address = folder.upload(
            Clients.of(patient.settings.aws), bucket, lambda size: progress.advance(task, size)
        )
    console.print(f"{patient.model.name} is at {address}")
    return address


def _bucket(patient: "Patient") -> str:
    """Return the name of the bucket of models, which CloudFormation chose.

    Raises:
        ByollmError: it is not there.
    """
    from byollm.aws import listed
    from byollm.settings import ByollmError

    stack = f"byollm-{patient.env}-storage"
    if stack in patient.stacks():
        resources = listed(
            patient.client("cloudformation"),
            "list_stack_resources",
            "StackResourceSummaries",
            StackName=stack,
        )
        for each in resources:
            if each["ResourceType"] == "AWS::S3::Bucket" and each["LogicalResourceId"].startswith("Models"):
                return str(each["PhysicalResourceId"])
    raise ByollmError(f"there is no bucket of models: run `byollm deploy --env {patient.env}` first")
