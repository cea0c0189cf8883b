"""Writes what was measured between the marks of docs/optimization.md."""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.optimization import arithmetic
from bench.optimization.techniques import METRICS, TECHNIQUES, Technique

NOT_MEASURED = "*Not measured yet: `python -m bench.optimization{}` writes it here.*"
BLOCK = re.compile(r"(<!-- measured: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_document(path: Path, results: dict[str, Any]) -> None:
    """Write every block anew, from the results that there are."""
    blocks = {each.key: technique_block(each, results.get(each.key)) for each in TECHNIQUES}
    blocks["quality"] = quality_block(results.get("quality"))
    blocks["gpu"] = arithmetic.table()
    text = BLOCK.sub(lambda found: f"{found[1]}{blocks[found[2]]}\n{found[3]}", path.read_text())
    path.write_text(text)


def technique_block(technique: Technique, measured: dict[str, Any] | None) -> str:
    """A table for each model and metric, and the picture."""
    if not measured:
        return NOT_MEASURED.format(f" --only {technique.key}")
    parts = []
    for model, run in measured.items():
        rows = run["rows"]
        parts.append(_circumstances(run, max(share for row in rows for share in row["foreign"])))
        for metric in dict.fromkeys(name for row in rows for name in row["values"]):
            parts.append(_table(technique, rows, f"{model}: {METRICS[metric].label}", metric))
    parts.append(f"![{technique.title}](optimization/{technique.key}.svg)")
    return "\n\n".join(parts)


def _table(technique: Technique, rows: Sequence[dict[str, Any]], title: str, metric: str) -> str:
    places = list(dict.fromkeys((row["batch"], row["context"]) for row in rows))
    lines = [
        f"| {title} | " + " | ".join(f"{batch} at {context}" for batch, context in places) + " |",
        "|---" * (len(places) + 1) + "|",
    ]
    for variant in technique.variants:
        cells = []
        for batch, context in places:
            row = _find(rows, batch, context, variant.name)
            there = row is not None and metric in row["values"]
            cells.append(_cell(technique, rows, row, metric) if row is not None and there else "")
        lines.append(f"| {variant.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(technique: Technique, rows: Sequence[dict[str, Any]], row: dict[str, Any], metric: str) -> str:
    values = row["values"][metric]
    text = f"{_number(statistics.median(values))} ({_number(min(values))}-{_number(max(values))})"
    times = ratio(technique, rows, row, metric)
    if row["variant"] == technique.variants[0].name or times is None:
        return text
    return f"{text}, **{times:.2f}**"


def ratio(
    technique: Technique, rows: Sequence[dict[str, Any]], row: dict[str, Any], metric: str
) -> float | None:
    """How many times as good a row is as the first variant in its place; None without such a number."""
    first = _find(rows, row["batch"], row["context"], technique.variants[0].name)
    if first is None or metric not in first["values"] or metric not in row["values"]:
        return None
    better = statistics.median(row["values"][metric]) / statistics.median(first["values"][metric])
    return better if METRICS[metric].rises else 1 / better


def _find(rows: Sequence[dict[str, Any]], batch: int, context: int, variant: str) -> dict[str, Any] | None:
    place = (batch, context, variant)
    return next((row for row in rows if (row["batch"], row["context"], row["variant"]) == place), None)


def quality_block(measured: dict[str, Any] | None) -> str:
    """Size and bits per byte of the bundled model, by the kind of its weights."""
    if measured is None:
        return NOT_MEASURED.format(" --only weights")
    rows = measured["rows"]
    first = next(iter(rows.values()))
    lines = [
        "| weights of the bundled model | size | bits per byte of held-out text | change |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        change = row["bits_per_byte"] / first["bits_per_byte"] - 1
        size = f"{row['bytes'] / 2**20:.2f} MiB"
        lines.append(f"| {name} | {size} | {row['bits_per_byte']:.4f} | {change:+.2%} |")
    return f"{_circumstances(measured, None)}\n\n" + "\n".join(lines)


def _circumstances(measured: dict[str, Any], foreign: float | None) -> str:
    told = (
        f"Measured {measured['date']} at {measured['commit']}: {measured['processor']}, "
        f"{measured['capability']}, {measured['threads']} threads; float32 products "
        f"{measured['flops'] / 1e9:.0f} GFLOP/s, reading {measured['bandwidth'] / 1e9:.0f} GB/s."
    )
    return told if foreign is None else f"{told} Others used {foreign:.0%} of the machine at most."


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
