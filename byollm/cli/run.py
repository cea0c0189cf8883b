"""`byollm run`: the server and the page together, as two processes of this machine."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    model: Annotated[
        Path | None, typer.Option(help="Model directory; by default the one in the repository.")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    port: Annotated[
        int | None, typer.Option(help="Port of the page; by default 7860, or the next free one.")
    ] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Chat on localhost: serve a model and open the page on it. Ctrl-C ends both."""
    from byollm.cli.pair import run_pair
    from byollm.settings import load_settings

    settings = load_settings(env)
    page = settings.page.override(port=port)
    run_pair(
        model, env=env, server=settings.server, page=page, port_asked_for=port is not None, browser=browser
    )
