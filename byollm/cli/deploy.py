"""`byollm deploy`: stands an environment up on AWS, whole."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from byollm.doctor.patient import Patient


def deploy(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="What is served: a model directory, or a name on the Hub; by default the bundled one."
        ),
    ] = None,
    skip_images: Annotated[
        bool,
        typer.Option("--skip-images", help="Build none; take those that the settings or the registry have."),
    ] = False,
) -> None:
    """Examine, deploy the stacks, the images, the services and the model, and ask it a question.

    The images are built here, or by CodeBuild where this machine has no container engine.

    Each step looks first at what is there: run again, it goes on where it was interrupted.
    """
    from rich.console import Console

    from byollm.aws import explained
    from byollm.cli.doctor import bundled_model
    from byollm.cli.model_source import model_directory
    from byollm.doctor import Patient
    from byollm.settings import load_settings

    console = Console(highlight=False)
    directory = model_directory(model) if model else bundled_model()
    patient = Patient.of(env, load_settings(env), directory)
    try:
        with explained():
            _deploy(patient, console, yes=yes, skip_images=skip_images)
    except KeyboardInterrupt:
        console.print(
            f"\nInterrupted. What CloudFormation has begun goes on; when it has ended, "
            f"`byollm deploy --env {env}` goes on where this ended."
        )
        raise typer.Exit(130) from None


def _deploy(patient: "Patient", console: "Console", *, yes: bool, skip_images: bool) -> None:
    from byollm.cli.cdk import run_cdk
    from byollm.cli.doctor import require_health
    from byollm.cli.first_chat import first_chat
    from byollm.cli.images import IMAGES, build_and_push
    from byollm.cli.publish import publish_model

    env, aws = patient.env, patient.settings.aws
    with _step(console, "doctor"):
        require_health(patient, console)
    if not yes:
        where = aws.endpoint_url or f"account {_account(patient)}"
        typer.confirm(f"Deploy {env} to {where}, {aws.region}?", abort=True)

    def stacks(digests: dict[str, str]) -> None:
        variables = {f"BYOLLM__IMAGES__{image.upper()}": digest for image, digest in digests.items()}
        options = ("--all", "--require-approval", "never", "--concurrency", "4")
        run_cdk("deploy", *options, env=env, aws=aws, variables=variables)

    named = {image: digest for image, digest in patient.settings.images.model_dump().items() if digest}
    # Services that stand are in the app from the start: without them, what they import would be taken away.
    digests = _pushed(patient) | named
    with _step(console, "stacks"):
        stacks(digests)
    unnamed = [image for image in IMAGES if image not in named]
    if unnamed and not skip_images:
        with _step(console, "images"):
            built = build_and_push(patient, console, unnamed)
        if built.items() - digests.items():
            digests |= built
            with _step(console, "services"):
                stacks(digests)
    if missing := [image for image in IMAGES if image not in digests]:
        console.print(f"[yellow]no image of {', '.join(missing)}[/]: what needs it is not deployed")
    with _step(console, "model"):
        publish_model(patient, console, digests.get("inference"))
    with _step(console, "chat"):
        first_chat(patient, console)


def _pushed(patient: "Patient") -> dict[str, str]:
    """Return the digests of the images that the registry has, the newest of each."""
    from byollm.cli.images import IMAGES, ImageError, newest

    found = {}
    for image in IMAGES:
        with suppress(ImageError):  # none yet
            found[image] = newest(patient, image)
    return found


@contextmanager
def _step(console: "Console", name: str) -> Iterator[None]:
    """Say that a step begins, and how long it took."""
    began = time.monotonic()
    console.rule(f"[bold]{name}[/]", align="left")
    yield
    console.print(f"[green]{name}[/]: {time.monotonic() - began:.0f} s")


def _account(patient: "Patient") -> str:
    return str(patient.client("sts").get_caller_identity()["Account"])
