"""`byollm quantize`: a float model becomes a packed one that is served as it is."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from byollm.settings.errors import ByollmError

if TYPE_CHECKING:
    from rich.console import Console

    from byollm.aws import S3Folder
    from byollm.kernels.packed import Scheme
    from byollm.modeling.packing.record import Quality, Record
    from byollm.modeling.packing.source import Source
    from byollm.settings import Settings

SMALL_BYTES = 2**30  # of a float model that is compared without being asked, on so many tokens
SAMPLE_TOKENS = 16_384
SUMS = "SHA256SUMS"


def quantize(
    source: Annotated[
        str, typer.Argument(help="Model directory, s3://bucket/prefix, or name on Hugging Face's Hub.")
    ],
    out: Annotated[str, typer.Argument(help="New directory, or s3://bucket/prefix.")],
    scheme: Annotated[
        Literal["int4", "int8", "nf4"],
        typer.Option(help="int4 and int8: ours; nf4: bitsandbytes', for QLoRA."),
    ] = "int4",
    group: Annotated[
        int | None, typer.Option(help="Weights that share a scale, a multiple of 32; 128, and 64 for nf4.")
    ] = None,
    double_quant: Annotated[
        bool,
        typer.Option(
            "--double-quant",
            help="For nf4: round the scales too, as QLoRA with bnb_4bit_use_double_quant does.",
        ),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Text like the model's own, with which GPTQ chooses the numbers: less is lost."),
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(
            help="Prepared data whose held-out text both models predict, the float one whole in memory; "
            "if not given, small models predict a sample of data.output where it has their tokenizer."
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="Where what goes to S3 is kept until it is there; a cache in your home if not given."
        ),
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Pack the weights of a model into 4 or 8 bits, tensor by tensor, without having it whole in memory.

    The same command goes on after an interruption, to the same bytes.
    """
    from rich.console import Console

    from byollm.cli.model_source import S3, open_source, s3_folder
    from byollm.modeling.packing.pack import pack_model
    from byollm.settings import load_settings
    from byollm.training.evaluation.progress import progress

    settings = load_settings(env)
    console = Console(highlight=False, soft_wrap=True)
    if calibrate is not None and scheme == "nf4":
        raise typer.BadParameter("nf4 has the numbers of bitsandbytes; --calibrate is for int4 and int8")
    chosen, text = _scheme(scheme, group, double_quant), _text(calibrate)
    model = open_source(source, settings)
    folder = s3_folder(out, settings) if out.startswith(S3) else None
    if evaluate is not None and _directory(model) is None:
        raise typer.BadParameter(
            f"{source} is in S3: the float model has to be in a directory to be evaluated"
        )
    directory = Path(out) if folder is None else _kept(folder, scratch, f"{chosen} {text}")
    record = pack_model(
        model,
        directory,
        chosen,
        progress=progress,
        destination=folder,
        tell=console.print,
        calibration=text,
        measure=lambda packed: _measure(model, packed, evaluate, settings),
    )
    if folder is not None:
        _upload(directory, folder)
    _report(record, out, console)


def _scheme(kind: Literal["int4", "int8", "nf4"], group: int | None, double: bool) -> "Scheme":
    from byollm.kernels.packed import NF4_GROUP, Scheme

    usual = NF4_GROUP if kind == "nf4" else 128
    try:
        return Scheme(kind, usual if group is None else group, double)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _text(calibrate: Path | None) -> str | None:
    try:
        return None if calibrate is None else calibrate.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ByollmError(f"{calibrate}: cannot be read as text ({error}); name a file of UTF-8") from None


def _directory(model: "Source") -> Path | None:
    from byollm.modeling.packing.source import DirectorySource

    return model.directory if isinstance(model, DirectorySource) else None


def _measure(model: "Source", packed: Path, prepared: Path | None, settings: "Settings") -> "Quality | None":
    """Compare both models on the data that were named; small ones on a sample of those at hand."""
    from byollm.training.evaluation.held_out import same_tokenizer
    from byollm.training.evaluation.quality import compare

    directory, at_hand = _directory(model), settings.data.output
    if directory is None:
        return None
    if prepared is not None:
        return compare(directory, packed, prepared, settings.pretrain)
    small = sum(model.files().values()) < SMALL_BYTES
    if not small or not same_tokenizer(packed / "tokenizer.json", at_hand):
        return None
    return compare(directory, packed, at_hand, settings.pretrain, SAMPLE_TOKENS)


def _kept(folder: "S3Folder", scratch: Path | None, job: str) -> Path:
    """Return where what goes to `folder` is kept meanwhile: the same place for the same job."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "byollm"
    name = hashlib.sha256(f"{folder.name} {job}".encode()).hexdigest()[:16]
    kept = (scratch or cache) / f"quantize-{name}" / folder.name.rpartition("/")[2]
    if folder.files() and not kept.parent.exists() and SUMS not in folder.files():
        raise ByollmError(f"{folder.name}: holds something else; choose a new prefix, or empty it")
    kept.parent.mkdir(parents=True, exist_ok=True)
    return kept


def _upload(directory: Path, folder: "S3Folder") -> None:
    """Copy the directory to S3, its sums last, so that they are there when all is; then remove it."""
    from byollm.modeling.packing.progress import in_mib
    from byollm.modeling.packing.source import DirectorySource, read_sums
    from byollm.training.evaluation.progress import progress

    if directory.is_dir():  # else an earlier run has done it
        place = DirectorySource(directory)
        sums = read_sums(place)
        with progress("uploading, MiB") as advance:
            tell = in_mib(advance, sum(place.files().values()))
            for file in (*sums, SUMS):
                folder.put(directory / file, sums.get(file, ""), tell)
    shutil.rmtree(directory.parent)


def _report(record: "Record", out: str, console: "Console") -> None:
    from rich.filesize import decimal

    console.print(
        f"{out}: {record.parameters:,} parameters, {decimal(record.bytes_before)} before and "
        f"{decimal(record.bytes_after)} after ({record.saved:.0%} less), "
        f"{record.bits_per_weight:.2f} bits per weight",
        markup=False,
    )
    if (quality := record.quality) is not None:
        console.print(
            f"held-out text: {quality.bits_per_byte_before:.4f} bits per byte before and "
            f"{quality.bits_per_byte_after:.4f} after ({quality.change:+.2%}), perplexity "
            f"{quality.perplexity_before:.3f} and {quality.perplexity_after:.3f}"
        )
