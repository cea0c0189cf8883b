"""`byollm data`: prepare text and conversations for training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="Prepare text and conversations for training.", no_args_is_help=True)

Env = Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")]
Force = Annotated[
    bool, typer.Option("--force", help="Start over in a directory that holds data prepared differently.")
]


@app.command()
def prepare(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Files to read instead of data.sources.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Output directory; data.output if not given.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Entries of the tokenizer's vocabulary.")] = None,
    force: Force = False,
    env: Env = "dev",
) -> None:
    """Turn text, JSONL, CSV and archives of them into a tokenizer and packed token shards.

    A run that was killed continues where it was when the same command is run again.
    """
    from rich.console import Console

    from byollm.data.prepare import prepare as run
    from byollm.settings import load_settings

    chosen = [{"path": path} for path in sources] if sources else None
    settings = load_settings(env).data.override(sources=chosen, output=out, vocab_size=vocab_size)
    manifest = run(settings, force=force)
    console = Console(highlight=False)
    console.print(_prepared(manifest))
    _print_rejected(console, manifest["documents"]["rejected"], settings.output / "rejected.jsonl")


@app.command()
def conversations(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Files to read instead of data.conversations."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output directory; `conversations` under data.output if not given.")
    ] = None,
    force: Force = False,
    env: Env = "dev",
) -> None:
    """Turn conversations of any known shape into canonical JSON Lines, train and val."""
    from rich.console import Console

    from byollm.data.conversations import prepare_conversations
    from byollm.settings import load_settings

    chosen = [{"path": path} for path in sources] if sources else None
    settings = load_settings(env).data.override(conversations=chosen)
    output = out or settings.output / "conversations"
    manifest = prepare_conversations(settings, output, force=force)
    console = Console(highlight=False)
    for split, part in manifest["splits"].items():
        console.print(f"{split}: {part['conversations']:,} conversations in {output / f'{split}.jsonl'}")
    console.print(f"duplicates left out: {manifest['duplicates']:,}")
    _print_rejected(console, manifest["rejected"], output / "rejected.jsonl")


def _prepared(manifest: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table("split", "documents", "tokens", "bytes", "shards")
    for split, part in manifest["splits"].items():
        counts = [f"{part[key]:,}" for key in ("documents", "tokens", "bytes")]
        table.add_row(split, *counts, str(len(part["shards"])))
    read, duplicates = manifest["documents"]["read"], manifest["documents"]["duplicates"]
    table.caption = (
        f"{read:,} documents read, {duplicates:,} duplicates left out; "
        f"vocabulary {manifest['vocab_size']:,}, {manifest['bytes_per_token']:.2f} bytes a token"
    )
    return table


def _print_rejected(console: Any, rejected: dict[str, int], file: Path) -> None:
    if not rejected:
        console.print("nothing was set aside")
        return
    console.print(f"set aside, listed in {file}:")
    for reason, count in rejected.items():
        console.print(f"  {count:,}  {reason}", markup=False)
