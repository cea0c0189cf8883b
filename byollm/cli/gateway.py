"""`byollm gateway`: the OpenAI API over a SageMaker endpoint."""

from typing import Annotated

import typer


def gateway(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one.")] = None,
    host: Annotated[
        str | None, typer.Option(help="The address; others than this machine need 0.0.0.0.")
    ] = None,
) -> None:
    """Pass OpenAI's calls to the environment's SageMaker endpoint, until Ctrl-C or SIGTERM."""
    from byollm.gateway import serve, target_of
    from byollm.settings import load_settings

    settings = load_settings(env)
    gateway = settings.gateway.override(host=host, port=port)
    serve(target_of(env, settings), gateway, settings.aws, typer.echo)
