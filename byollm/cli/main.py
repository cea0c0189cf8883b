"""Puts the commands together."""

import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from byollm import __version__
from byollm.cli import config, cost, data
from byollm.cli.deploy import deploy
from byollm.cli.destroy import destroy
from byollm.cli.doctor import doctor
from byollm.cli.down import down
from byollm.cli.evaluate import evaluate
from byollm.cli.finetune import finetune
from byollm.cli.gateway import gateway
from byollm.cli.inspect import inspect
from byollm.cli.logs import logs
from byollm.cli.pretrain import pretrain
from byollm.cli.publish import publish
from byollm.cli.quantize import quantize
from byollm.cli.run import run
from byollm.cli.serve import serve
from byollm.cli.status import status
from byollm.cli.train import train
from byollm.cli.tune import tune
from byollm.cli.up import up
from byollm.settings.errors import ByollmError

app = typer.Typer(
    name="byollm",
    help="Bring your own LLM: from text to a model of your own, served fast.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"byollm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    pass


app.command()(run)
app.add_typer(data.app, name="data")
app.command()(pretrain)
app.command()(finetune)
app.command()(train)
app.command()(evaluate)
app.command()(quantize)
app.command()(tune)
app.command()(inspect)
app.command()(serve)
app.command()(gateway)
app.command()(up)
app.command()(status)
app.command()(logs)
app.command()(down)
app.command()(doctor)
app.add_typer(cost.app, name="cost")
app.command()(deploy)
app.command()(publish)
app.command()(destroy)
app.add_typer(config.app, name="config")


# Which extra of pyproject.toml brings what a command may miss: `make run` installs only what the chat needs.
EXTRAS = {
    "aws_cdk": "local",
    "boto3": "local",
    "botocore": "local",
    "cdk_nag": "local",
    "constructs": "local",
    "cryptography": "local",
    "fastapi": "serve",
    "gradio": "page",
    "httpx": "page",
    "lm_eval": "evaluate",
    "matplotlib": "train",
    "ministack": "local",
    "moto": "local",
    "psutil": "local",
    "torch": "serve",
    "uvicorn": "serve",
    "xgrammar": "serve",
}


def main() -> None:
    """Run the command line; an error meant for people is printed without a traceback, with status 1."""
    try:
        app()
    except ByollmError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        extra = EXTRAS[missing]
        _fail(f"this command needs {missing}, which is not installed: pip install 'byollm[{extra}]'")


def _fail(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {_escape(message)}", highlight=False)
    sys.exit(1)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
