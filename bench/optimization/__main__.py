"""Measures what each technique gives, on this machine, in one run; writes docs/optimization.md's figures.

    python -m bench.optimization                       # all; the larger shape takes most of the time
    python -m bench.optimization --only weights --model bundled
    python -m bench.optimization --render              # measures nothing: tables and pictures anew

What is measured goes into docs/optimization/results.json, where it takes the place of what stands there of
the same technique and model; the tables between the marks of docs/optimization.md and the pictures are made
from that file. Variants of a technique alternate, and a run during which others used more than a twentieth of
the machine is repeated.
"""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from bench.optimization.document import write_document
from bench.optimization.measure import Plan, measure
from bench.optimization.pictures import draw
from bench.optimization.techniques import CORES, TECHNIQUES
from bench.optimization.variants import quality
from bench.serve.machine import matmul_flops, read_bandwidth
from bench.serve.models import BUNDLED, model_directory


def main(
    only: Annotated[list[str] | None, typer.Option(help="Techniques by their keys; by default all.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="bundled, smollm2-135m, or a directory.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="By default 1, 8 and 32.")] = None,
    context: Annotated[list[int] | None, typer.Option(help="By default 128 and 512.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each variant.")] = 5,
    seconds: Annotated[float, typer.Option(help="After so long, a variant is not run again.")] = 60,
    foreign: Annotated[float, typer.Option(help="Share of the machine that others may use in a run.")] = 0.05,
    peers: Annotated[Path, typer.Option(help="Where the large shape is, or is made.")] = Path("var/peers"),
    prepared: Annotated[
        Path, typer.Option(help="What `byollm data prepare` made for the bundled model, for quality.")
    ] = Path("var/bundled-data"),
    into: Annotated[Path, typer.Option(help="The folder of optimization.md.")] = Path("docs"),
    render: Annotated[bool, typer.Option(help="Measure nothing; write tables and pictures.")] = False,
) -> None:
    """Measure techniques one by one."""
    console = Console()
    file = into / "optimization" / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    plan = Plan(tuple(batch or (1, 8, 32)), tuple(context or (128, 512)), repeats, seconds, foreign)
    chosen = [each for each in TECHNIQUES if each.key in (only or [each.key])]
    for technique in [] if render else chosen:
        for name in model or ("bundled", "smollm2-135m"):
            if technique.trained and name != "bundled":
                continue
            rows: list[dict[str, Any]] = []
            for row in measure(technique, model_directory(name, peers), plan):
                rows.append(row)
                console.print(technique.key, name, json.dumps(row))
            torch.set_num_threads(CORES)
            results.setdefault(technique.key, {})[name] = _circumstances() | {"rows": rows}
            if technique.key == "weights" and name == "bundled" and prepared.is_dir():
                bits = {each.name: quality(each, BUNDLED, prepared) for each in technique.variants}
                results["quality"] = _circumstances() | {"rows": bits}
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(results, indent=1) + "\n")
    for technique in TECHNIQUES:
        draw(technique, results.get(technique.key), file.parent)
    write_document(into / "optimization.md", results)


def _circumstances() -> dict[str, Any]:
    """When and where: enough to judge the figures by."""
    revision = ["git", "rev-parse", "--short", "HEAD"]
    described = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in described if "model name" in line), "unknown")
    return {
        "commit": subprocess.run(revision, capture_output=True, text=True, check=False).stdout.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": CORES,
        "flops": matmul_flops(),
        "bandwidth": read_bandwidth(),
    }


if __name__ == "__main__":
    typer.run(main)
