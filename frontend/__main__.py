"""`python -m frontend`: serve the page until told to stop."""

import sys
from typing import Annotated

import typer

from byollm.settings import ByollmError, load_settings


def serve(
    api: Annotated[
        str | None, typer.Option(help="Address of the model server, as `byollm serve` prints it.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the page; 0 takes any that is free.")] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0 opens the page to the network.")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="Environment whose settings apply.")] = "dev",
) -> None:
    """Serve the chat page. It speaks to a model server (`byollm serve`) and to nothing else."""
    settings = load_settings(env).page.override(api=api, port=port, host=host)
    from frontend.serve import run

    run(settings, any_port=port is None)


def main() -> None:
    """Run; an error meant for people is printed without a traceback, with status 1."""
    try:
        typer.run(serve)
    except ByollmError as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
