"""`byollm down`: ends the emulated AWS of this machine."""

from pathlib import Path
from typing import Annotated

import typer


def down(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    directory: Annotated[
        Path | None, typer.Option(help="Where it keeps everything; by default var/local/<env>.")
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove all that it keeps, too.")] = False,
) -> None:
    """End the emulated AWS and all that runs on it; `byollm up` goes on where it was."""
    from byollm.cli.here import place
    from byollm.local.launch import Running
    from byollm.local.launch import forget as forget_all

    where = place(env, directory)
    running = Running.find(where)
    if running is not None:
        running.stop()
    if forget:
        forget_all(where)
    typer.echo(f"{where} is {'down' if running else 'not up'}{' and forgotten' if forget else ''}")
