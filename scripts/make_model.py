"""Makes the bundled model from the data packs: prepare, pretrain, teach to chat, measure, write the card.

    make model BYOLLM__DATA__DIRECTORY=/path/to/packs

Every step continues where a killed one stopped, and a finished step is not repeated.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from byollm.modeling import Tokenizer, load_decoder, save_decoder
from byollm.settings import REPOSITORY, load_settings

NAME = "byollm-tiny"
# What the server samples with where a request does not say; how it was chosen stands in bench/LOG.md.
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.9}
CARD = Path(__file__).with_name("model_card.md")


def main(
    work: Annotated[Path, typer.Option(help="Directory of the runs.")] = Path("var/model"),
    out: Annotated[Path, typer.Option(help="The model directory to write.")] = REPOSITORY / "models" / NAME,
) -> None:
    """Make the bundled model."""
    settings = load_settings()
    data = settings.data.output
    conversations = data / "conversations"
    pretrained, tuned = work / "pretrain", work / "finetune"
    _byollm("data", "prepare", "--out", data)
    _byollm("data", "conversations", "--out", conversations)
    _byollm("pretrain", "--data", data, "--out", pretrained)
    _byollm(
        "finetune", "--full", "--base", pretrained / "model", "--conversations", conversations, "--out", tuned
    )
    _install(tuned / "model", out)
    measure: list[str | Path] = [
        "--prepared",
        data,
        "--out",
        work / "evaluation.json",
        "--samples",
        work / "samples.md",
    ]
    _byollm("evaluate", "--model", out, "--tasks", "blimp", *measure)
    shutil.copyfile(pretrained / "curve.png", out / "curve.png")
    (out / "README.md").write_text(_card(data, pretrained, tuned, work))
    Console().print(f"{NAME} is in {out}")


def _byollm(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "byollm", *map(str, arguments)], check=True)


def _install(model: Path, out: Path) -> None:
    """Copy the model with weights rounded to bfloat16: half the size in the repository."""
    tokenizer = Tokenizer.load(model)
    decoder = load_decoder(model, dtype=torch.bfloat16)
    save_decoder(decoder, out, tokenizer, eos_ids=tokenizer.eos_ids, generation=SAMPLING)


def _card(data: Path, pretrained: Path, tuned: Path, work: Path) -> str:
    """Fill the template with what the runs wrote."""
    manifest, base, chat, measured = (
        _read(path)
        for path in (
            data / "manifest.json",
            pretrained / "summary.json",
            tuned / "summary.json",
            work / "evaluation.json",
        )
    )
    shape = base["settings"]["model"]
    blimp = measured["tasks"][0]
    phenomena = "\n".join(
        f"| {part['task'].removeprefix('blimp_').replace('_', ' ')} | {part['metrics']['acc']:.1%} |"
        for part in sorted(blimp["parts"], key=lambda part: -part["metrics"]["acc"])
    )
    return CARD.read_text().format(
        name=NAME,
        parameters=f"{base['parameters'] / 1e6:.2f}M",
        shape=f"{shape['layers']} layers of width {shape['hidden_size']}, {shape['heads']} query and "
        f"{shape['kv_heads']} key-value heads of {shape['head_dim']}, MLP {shape['intermediate_size']}",
        vocab=f"{base['tokenizer']['vocab_size']:,}",
        context=base["settings"]["sequence_length"],
        corpus_tokens=f"{manifest['splits']['train']['tokens']:,}",
        corpus_bytes=f"{manifest['splits']['train']['bytes'] / 1e6:.1f}",
        bytes_per_token=f"{manifest['bytes_per_token']:.2f}",
        tokens=f"{base['tokens']:,}",
        steps=f"{base['steps']:,}",
        minutes=f"{base['minutes']:.0f}",
        hardware="{processor}, {precision}, {threads} thread(s)".format(**base["hardware"]),
        speed=f"{base['tokens_per_second']:,.0f}",
        mfu=f"{base['mfu']:.0%}",
        loss=f"{base['validation_loss']:.3f}",
        accuracy=f"{base['validation_accuracy']:.2%}",
        bits=f"{base['bits_per_byte']:.3f}",
        chat_minutes=f"{chat['minutes']:.0f}",
        chat_tokens=f"{chat['tokens']:,}",
        chat_loss=f"{chat['validation_loss']:.3f}",
        chat_accuracy=f"{chat['validation_accuracy']:.2%}",
        final_bits=f"{measured['held_out']['bits_per_byte']:.3f}",
        blimp=f"{blimp['metrics']['acc']:.1%}",
        blimp_error=f"{blimp['metrics']['acc_stderr']:.1%}",
        phenomena=phenomena,
        samples=(work / "samples.md").read_text().strip(),
        sources="\n".join(f"| `{source['path']}` | `{source['sha256']}` |" for source in manifest["sources"]),
        seed=base["seed"],
        temperature=SAMPLING["temperature"],
        top_p=SAMPLING["top_p"],
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    typer.run(main)
