"""`byollm publish`: a model goes to S3 and is released by the state machine."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from byollm.doctor.patient import Patient


def publish(
    model: Annotated[
        str | None, typer.Argument(help="Model directory, or a name on the Hub; by default the bundled one.")
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
    from byollm.cli.model_source import model_directory
    from byollm.doctor import Patient
    from byollm.settings import load_settings

    console = Console(highlight=False, soft_wrap=True)
    directory = model_directory(model) if model else bundled_model()
    patient = Patient.of(env, load_settings(env), directory)
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

    folder, bucket = ModelFolder.read(patient.model), patient.bucket("Models")
    columns = (TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=folder.size)
        address = folder.upload(
            Clients.of(patient.settings.aws), bucket, lambda size: progress.advance(task, size)
        )
    console.print(f"{patient.model.name} is at {address}")
    return address
