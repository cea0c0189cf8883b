"""The scaling study behind the bundled model: which size makes the most of an amount of arithmetic.

    python -m bench.scaling --flops 6e12 --flops 1.8e13 --shape 128x4 --shape 192x4 --shape 256x4

For every shape (WIDTHxLAYERS) and budget it runs `byollm pretrain` on as many tokens as the budget pays for,
so all runs of a budget cost the same. A finished run is not repeated; `--seeds` adds runs with other seeds.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from byollm.modeling import DecoderConfig

HEAD_DIM, ROW = 64, 512
MLP_RATIO = 2.75  # the gated MLP's width over the model's


def main(
    flops: Annotated[
        list[float], typer.Option(help="Budgets: floating-point operations of all steps together.")
    ],
    shape: Annotated[list[str], typer.Option(help="WIDTHxLAYERS.")],
    data: Annotated[Path, typer.Option(help="What `byollm data prepare` wrote.")] = Path("var/data"),
    out: Annotated[Path, typer.Option(help="Directory of the runs.")] = Path("var/scaling"),
    seeds: Annotated[int, typer.Option(help="Runs of each shape and budget.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores.")] = 0,
) -> None:
    """Train every shape at every budget and show which is best."""
    rows = [
        _train(each, budget, seed, data, out, threads)
        for budget in flops
        for each in shape
        for seed in range(seeds)
    ]
    table = Table("budget", "shape", "parameters", "tokens", "loss", "accuracy", "bits per byte", "spread")
    for budget in flops:
        runs = [[row for row in rows if (row["budget"], row["shape"]) == (budget, each)] for each in shape]
        best = min(statistics.mean(run["bits_per_byte"] for run in same) for same in runs)
        for same in runs:
            bits = [run["bits_per_byte"] for run in same]
            mean, first = statistics.mean(bits), same[0]
            table.add_row(
                f"{budget:.1e}",
                first["shape"],
                f"{first['parameters']:,}",
                f"{first['tokens']:,}",
                f"{statistics.mean(run['loss'] for run in same):.3f}",
                f"{statistics.mean(run['accuracy'] for run in same):.2%}",
                f"[bold]{mean:.4f}[/]" if mean == best else f"{mean:.4f}",
                f"± {statistics.stdev(bits):.4f}" if len(bits) > 1 else "",
            )
    Console().print(table)
    print(json.dumps(rows))


def _train(shape: str, budget: float, seed: int, data: Path, out: Path, threads: int) -> dict[str, Any]:
    width, layers = map(int, shape.split("x"))
    heads = width // HEAD_DIM
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "layers": layers,
        "heads": heads,
        "kv_heads": math.ceil(heads / 2) if heads % 2 == 0 else 1,
        "head_dim": HEAD_DIM,
        "intermediate_size": round(MLP_RATIO * width / 64) * 64,
    }
    vocabulary = json.loads((data / "manifest.json").read_text())["vocab_size"]
    config = DecoderConfig(vocab_size=vocabulary, max_positions=ROW, tie_embeddings=True, **sizes)
    tokens = budget / (3 * config.flops_per_token(ROW))
    run = out / f"{shape}-{budget:.1e}-{seed}"
    if not (run / "summary.json").is_file():
        variables = {f"BYOLLM__PRETRAIN__MODEL__{name.upper()}": str(size) for name, size in sizes.items()}
        command = [sys.executable, "-m", "byollm", "pretrain", "--data", str(data), "--out", str(run)]
        options = ["--tokens", str(tokens), "--seed", str(seed), "--threads", str(threads)]
        subprocess.run([*command, *options], env=os.environ | variables, check=True)
    summary = json.loads((run / "summary.json").read_text())
    return {
        "budget": budget,
        "shape": shape,
        "seed": seed,
        "parameters": summary["parameters"],
        "tokens": summary["tokens"],
        "minutes": summary["minutes"],
        "loss": summary["validation_loss"],
        "accuracy": summary["validation_accuracy"],
        "bits_per_byte": summary["bits_per_byte"],
    }


if __name__ == "__main__":
    typer.run(main)
