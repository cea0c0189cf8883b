"""`byollm up`: the platform on an emulated AWS of this machine, whole and running."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from byollm.local.launch import Running
    from byollm.settings import Settings

PORT = 4566
WITHIN_SECONDS = 120.0  # the page and the API answer, once everything stands


def up(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    port: Annotated[
        int | None, typer.Option(help=f"Port of the emulated AWS; by default {PORT}, or the one it has.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where it keeps everything; by default var/local/<env>.")
    ] = None,
    clock_factor: Annotated[
        float, typer.Option(min=1, help="How many times as fast AWS's own waits and periods go by.")
    ] = 1,
) -> None:
    """Start an emulated AWS, deploy the CDK app onto it, and have it serve the bundled model.

    Run again, it deploys what has changed. docs/local.md says what is emulated and what is not.
    """
    from rich.console import Console

    from byollm.aws import explained
    from byollm.cli.here import place
    from byollm.settings import load_settings

    console = Console(highlight=False)
    settings, where = load_settings(env), place(env, directory)
    began = time.monotonic()
    try:
        with explained():
            running = _up(console, where, env, settings, port, clock_factor)
    except KeyboardInterrupt:
        console.print("\nInterrupted. What was begun is kept: `byollm up` goes on, `byollm down` ends it.")
        raise typer.Exit(130) from None
    console.print(f"\nup after {time.monotonic() - began:.0f} s\n")
    _tell(console, running, env)


def _up(
    console: "Console", where: Path, env: str, settings: "Settings", port: int | None, factor: float
) -> "Running":
    """Bring everything up and return its front process; what is up already stays."""
    from byollm.cli.cdk import Synthesis
    from byollm.cli.doctor import bundled_model
    from byollm.cli.here import become_client, bootstrap
    from byollm.cli.publish import publish_model
    from byollm.doctor import Patient
    from byollm.local.images import digest, manifests_now, push_images, write_images
    from byollm.local.launch import Running

    found, region = Running.find(where), settings.aws.region
    become_client(found.address if found else f"http://localhost:{port or PORT}", region)
    manifests = manifests_now()
    digests = {image: digest(manifest) for image, manifest in manifests.items()}
    variables = {f"BYOLLM__IMAGES__{image.upper()}": known_by for image, known_by in digests.items()}
    # The templates need no AWS: they are made while it starts.
    with Synthesis(env=env, aws=settings.aws, variables=variables) as synthesis:
        with _step(console, "AWS"):
            running = _front(where, port, region, factor)
        patient = Patient.of(env, settings, bundled_model())
        with _step(console, "bootstrap"):
            bootstrap(patient, where)
        write_images(where, env, digests)
        with _step(console, "templates"):
            assembly = synthesis.assembly()
        with _step(console, "stacks"):
            _deploy(assembly, env, settings, where / "logs" / "cdk.log")
    with _step(console, "images"):
        push_images(patient.client("ecr"), env, manifests)
    with _step(console, "model"):
        publish_model(patient, console, digests["inference"])
    with _step(console, "services"):
        _wait(page_address(running, env))
    return running


def _front(directory: Path, port: int | None, region: str, factor: float) -> "Running":
    """Return the front process of `directory`, started if there is none.

    Raises:
        LocalError: another port is asked for than it has, there is too little room, or it does not start.
    """
    from byollm.local.launch import LocalError, Running, launch
    from byollm.local.room import KEPT_BYTES, shortage

    running = Running.find(directory)
    if running is None:
        return launch(directory, port=port or PORT, region=region, factor=factor)
    if port not in (None, running.port):
        raise LocalError(
            f"{directory} runs on port {running.port} already: leave --port out, `byollm down` first, or "
            "name another --directory"
        )
    health = running.health()
    if not health.get("ready"):
        raise LocalError(
            f"it runs but is not well ({health.get('failed', 'it does not answer')}): `byollm down` first"
        )
    if said := shortage(directory, KEPT_BYTES):
        raise LocalError(said)
    return running


def _deploy(assembly: Path, env: str, settings: "Settings", log: Path) -> None:
    """Deploy all stacks.

    Raises:
        LocalError: the CDK fails; the end of what it said is in the message.
    """
    from byollm.cli.cdk import CdkError, run_cdk
    from byollm.local.launch import LocalError, tail

    options = ("--all", "--require-approval", "never", "--concurrency", "4")
    with log.open("ab") as output:
        try:
            run_cdk("deploy", *options, env=env, aws=settings.aws, assembly=assembly, output=output)
        except CdkError:
            raise LocalError(f"the stacks cannot be deployed; the end of {log}:\n{tail(log, 30)}") from None


def page_address(running: "Running", env: str) -> str | None:
    """Return where the page is; None where the environment has no services."""
    from byollm.cli.here import client

    stack = f"byollm-{env}-services"
    cloud = client(running, "cloudformation")
    try:
        [found] = cloud.describe_stacks(StackName=stack)["Stacks"]
    except cloud.exceptions.ClientError:
        return None
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    return outputs.get("Address")


def _wait(address: str | None) -> None:
    """Wait until the page and the API behind `address` answer.

    Raises:
        LocalError: they do not.
    """
    import httpx

    from byollm.local.launch import LocalError

    deadline = time.monotonic() + WITHIN_SECONDS
    for path in ("/", "/health") if address else ():
        said = "nothing"
        while said != "200":
            if time.monotonic() > deadline:
                raise LocalError(
                    f"{address}{path} does not answer ({said}): `byollm logs frontend`, `byollm logs gateway`"
                )
            try:
                answer = httpx.get(f"{address}{path}", verify=False, timeout=5, trust_env=False)  # noqa: S501
                said = str(answer.status_code)
            except httpx.TransportError as error:
                said = str(error)
            time.sleep(0.2)


def _tell(console: "Console", running: "Running", env: str) -> None:
    from byollm.local.world import ACCESS_KEY, SECRET_KEY

    address = page_address(running, env)
    if address:
        console.print(f"page          [bold]{address}[/]")
        console.print(f"API           {address}/v1  (any OpenAI client)")
    console.print(f"endpoint      byollm-{env}  (boto3's sagemaker-runtime)")
    console.print(f"AWS           {running.address}, region {running.region}")
    console.print("\n[dim]Any client of AWS finds it with:[/]")
    console.print(
        # boto3 and the AWS CLI read one of the two regions, the CDK and other clients the other
        f"export AWS_ENDPOINT_URL={running.address} AWS_REGION={running.region} "
        f"AWS_DEFAULT_REGION={running.region} "
        f"AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}",
        soft_wrap=True,
    )


@contextmanager
def _step(console: "Console", name: str) -> Iterator[None]:
    """Show that a step is under way, and then how long it took."""
    began = time.monotonic()
    with console.status(name):
        yield
    console.print(f"[green]✓[/] {name:<10} {time.monotonic() - began:5.1f} s")
