"""`byollm inspect`: what is in a model, and on which GPU it fits."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from byollm.modeling.packing.contents import Contents
    from byollm.modeling.packing.source import Source
    from byollm.settings.memory import Footprint


def inspect(
    source: Annotated[
        str, typer.Argument(help="Model directory, s3://bucket/prefix, or name on Hugging Face's Hub.")
    ],
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a request; engine.max_context, or all positions, if not given."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Requests at once; endpoint.scaling.concurrency if not given."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file, and compare with SHA256SUMS.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Show a model's parts, size and packing, and what memory it needs on each GPU, with the arithmetic."""
    import json

    from rich.console import Console

    from byollm.cli.model_source import open_source
    from byollm.modeling.packing.contents import read_contents
    from byollm.settings import load_settings
    from byollm.settings.memory import CACHE_BYTES, GIB, Footprint

    settings = load_settings(env)
    model = open_source(source, settings)
    contents = read_contents(model)
    context = context or settings.engine.max_context or contents.config.max_positions
    batch = batch or settings.endpoint.scaling.concurrency
    footprint = Footprint(weights_gib=contents.nbytes / GIB, token_bytes=contents.token_bytes)
    fits = _fits(footprint, context, batch, contents.config.max_positions)
    hashes = _verify(model) if verify else None
    if as_json:
        said = _as_json(contents) | {"context": context, "batch": batch, "gpus": fits}
        typer.echo(json.dumps(said | ({} if hashes is None else {"sha256": hashes}), indent=2))
        return
    console, shape = Console(highlight=False, soft_wrap=True), contents.config
    console.print(
        f"{contents.name}: {shape.family}, {shape.num_parameters():,} parameters, {contents.scheme}, "
        f"{contents.bits_per_weight:.2f} bits per weight"
    )
    console.print(_parts(contents))
    console.print(
        f"cache: 2 x {shape.layers} layers x {shape.kv_heads} heads x {shape.head_dim} channels x "
        f"{CACHE_BYTES} bytes = {contents.token_bytes / 1024:g} KiB a token"
    )
    console.print(footprint.arithmetic(context, batch))
    console.print(_table(fits, context, batch))
    if hashes is not None:
        console.print(f"{len(hashes)} files are what they should be")


def _fits(footprint: "Footprint", context: int, batch: int, positions: int) -> list[dict[str, Any]]:
    """Return for each GPU whether that fits, and the most that does; no request has more than `positions`."""
    from byollm.settings.instances import GPU_MEMORY_GIB, INSTANCE_TYPES

    return [
        {
            "gpu": gpu,
            "memory_gib": memory,
            "needs_gib": round(footprint.needs_gib(context, batch), 3),
            "fits": footprint.needs_gib(context, batch) <= memory,
            "requests_at_context": footprint.requests(memory, context),
            "context_at_batch": min(footprint.context(memory, batch), positions),
            "instance_types": [name for name, kind in INSTANCE_TYPES.items() if kind.gpu == gpu],
        }
        for gpu, memory in GPU_MEMORY_GIB.items()
    ]


def _verify(model: "Source") -> dict[str, str]:
    """Hash the files that the model's SHA256SUMS names, or all where there is none.

    Raises:
        ByollmError: one is absent, or not what it should be.
    """
    from byollm.modeling.packing.progress import in_mib
    from byollm.modeling.packing.source import read_sums, verified
    from byollm.settings.errors import ByollmError
    from byollm.training.evaluation.progress import progress

    files, sums = model.files(), read_sums(model)
    if absent := sums.keys() - files.keys():
        raise ByollmError(f"{model.name}: SHA256SUMS names {', '.join(sorted(absent))}, which is absent")
    names = list(sums) or [name for name in files if model.promised(name)]
    if not names:
        raise ByollmError(
            f"{model.name}: there is nothing to verify with; `sha256sum * > SHA256SUMS` where it is whole"
        )
    with progress("verifying, MiB") as advance:
        return verified(model, names, in_mib(advance, sum(files[name] for name in names)))


def _as_json(contents: "Contents") -> dict[str, Any]:
    return {
        "name": contents.name,
        "family": contents.config.family,
        "parameters": contents.config.num_parameters(),
        "scheme": contents.scheme,
        "bits_per_weight": round(contents.bits_per_weight, 3),
        "bytes": contents.nbytes,
        "parts": contents.parts,
        "cache_bytes_per_token": contents.token_bytes,
    }


def _parts(contents: "Contents") -> "Table":
    from rich.filesize import decimal
    from rich.table import Table

    table = Table()
    table.add_column("part")
    table.add_column("bytes", justify="right")
    table.add_column("share", justify="right")
    for part, size in (*contents.parts.items(), ("all", contents.nbytes)):
        table.add_row(part, decimal(size), f"{size / contents.nbytes:.1%}")
    return table


def _table(fits: list[dict[str, Any]], context: int, batch: int) -> "Table":
    from rich.table import Table

    table = Table()
    for heading in ("GPU", "GiB", "fits", f"requests of {context:,} tokens", f"tokens of {batch} requests"):
        table.add_column(heading, justify="left" if heading == "GPU" else "right")
    table.add_column("instance types")
    for fit in fits:
        table.add_row(
            fit["gpu"],
            str(fit["memory_gib"]),
            "yes" if fit["fits"] else "no",
            f"{fit['requests_at_context']:,}",
            f"{fit['context_at_batch']:,}",
            " ".join(_families(fit["instance_types"])),
        )
    return table


def _families(names: list[str]) -> list[str]:
    """Shorten names: those of one family to what they begin with, and the number of sizes."""
    first: dict[str, list[str]] = {}
    for name in names:
        first.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
    return [f"{family}.{sizes[0]}" + ("…" if len(sizes) > 1 else "") for family, sizes in first.items()]
