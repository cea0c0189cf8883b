"""The picture of a run: loss and bits per byte over tokens and time."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

SMOOTHING = 0.02  # share of the steps that the smooth line is a mean of


def draw_curve(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Draw the records of a run's log to a PNG file, which is replaced in one step."""
    from matplotlib.figure import Figure

    steps, validations = list[dict[str, Any]](), list[dict[str, Any]]()
    for record in records:
        (validations if "validation" in record else steps).append(record)
    if not steps:
        return
    tokens = np.array([record["tokens"] for record in steps]) / 1e6
    loss = np.array([record["loss"] for record in steps])
    minutes = np.array([record["seconds"] for record in steps]) / 60
    width = max(1, int(SMOOTHING * len(loss)))
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(tokens, loss, color="#9ecae1", linewidth=0.6, label="training, each step")
    axes.plot(tokens[width - 1 :], smooth, color="#2171b5", linewidth=1.5, label=f"training, mean of {width}")
    axes.set(xlabel="tokens (millions)", ylabel="loss (nats a token)")
    axes.grid(alpha=0.3)
    low = min(smooth.min(), *(record["validation"]["loss"] for record in validations), smooth.min())
    high = max(np.quantile(loss, 0.98), low + 0.1)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if validations:
        at = [record["tokens"] / 1e6 for record in validations]
        axes.plot(
            at, [r["validation"]["loss"] for r in validations], "o-", color="#d94801", label="validation"
        )
        bytes_axes = axes.twinx()
        bits = [record["validation"]["bits_per_byte"] for record in validations]
        bytes_axes.plot(at, bits, "s--", color="#238b45", markersize=4, label="validation, bits a byte")
        bytes_axes.set_ylabel("bits a byte", color="#238b45")
        axes.plot([], [], "s--", color="#238b45", markersize=4, label="validation, bits a byte")
        axes.set_title(
            f"validation loss {validations[-1]['validation']['loss']:.3f}, {bits[-1]:.3f} bits a byte"
        )
    time_axis = axes.secondary_xaxis(
        "top",
        functions=(
            lambda x: np.interp(np.asarray(x), tokens, minutes),
            lambda x: np.interp(np.asarray(x), minutes, tokens),
        ),
    )
    time_axis.set_xlabel("minutes")
    axes.legend(loc="upper right")
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png")
    partial.replace(path)
