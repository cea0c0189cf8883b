"""`byollm serve`: the OpenAI API over a model directory."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    model: Annotated[
        Path | None, typer.Option(help="Model directory; by default the one in the repository.")
    ] = None,
    embedding_model: Annotated[
        Path | None, typer.Option(help="Directory of a sentence model, for embeddings.")
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            help="A LoRA adapter, as NAME=DIRECTORY; may be given several times.", metavar="NAME=DIR"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="The port; 0 takes a free one.", envvar="SAGEMAKER_BIND_TO_PORT", show_envvar=False
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="The address; others than this machine need 0.0.0.0.")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Serve a model over OpenAI's protocol, until Ctrl-C or SIGTERM."""
    from byollm.server import serve as serve_model
    from byollm.settings import load_settings

    settings = load_settings(env)
    server = settings.server.override(
        model=model,
        embedding_model=embedding_model,
        host=host,
        port=port,
        named_adapters=settings.server.named_adapters | _named(adapter or []),
    )
    serve_model(server, settings.engine, typer.echo)


def _named(adapters: list[str]) -> dict[str, Path]:
    named = {}
    for given in adapters:
        name, separator, directory = given.partition("=")
        if not (name and separator and directory):
            raise typer.BadParameter(f"{given!r} is not NAME=DIRECTORY, such as legal=runs/legal")
        named[name] = Path(directory)
    return named
