"""The picture of a run: loss and bits per byte over tokens, with the minutes above."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

SMOOTHING = 0.02  # share of the steps that the smooth line is a mean of
PALE, BLUE, ORANGE = "#9ecae1", "#2171b5", "#d94801"


def draw_curve(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Draw the records of a run's log to a PNG file, replaced in one step; nothing without a step."""
    from matplotlib.figure import Figure

    steps, validations = list[dict[str, Any]](), list[dict[str, Any]]()
    for record in records:
        (validations if "validation" in record else steps).append(record)
    if not steps:
        return
    tokens = np.array([record["tokens"] for record in steps]) / 1e6
    minutes = np.array([record["seconds"] for record in steps]) / 60
    loss = np.array([record["loss"] for record in steps])
    width = max(1, int(SMOOTHING * len(loss)))
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    figure = Figure(figsize=(9, 5), dpi=120)
    axes = figure.add_axes((0.08, 0.12, 0.83, 0.72))
    axes.plot(tokens, loss, color=PALE, linewidth=0.6, label="training, each step")
    axes.plot(
        tokens[width - 1 :], smooth, color=BLUE, linewidth=1.5, label=f"training, mean of {width} steps"
    )
    axes.set(xlabel="tokens (millions)", ylabel="loss (nats a token)", xlim=(0, 1.01 * tokens[-1]))
    axes.grid(alpha=0.3)
    shown = np.concatenate([smooth, [record["validation"]["loss"] for record in validations]])
    low, high = shown.min(), max(np.quantile(loss, 0.98), shown.min() + 0.1)
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    if validations:
        at = [record["tokens"] / 1e6 for record in validations]
        losses = [record["validation"]["loss"] for record in validations]
        axes.plot(at, losses, "o-", color=ORANGE, markersize=4, label="validation")
        bits = validations[-1]["validation"]["bits_per_byte"]
        share = bits / losses[-1]  # the two differ by a factor, so one line shows both
        right = axes.secondary_yaxis("right", functions=(lambda y: y * share, lambda y: y / share))
        right.set_ylabel("bits a byte")
        axes.set_title(f"validation: loss {losses[-1]:.3f}, {bits:.3f} bits a byte")
    if len(steps) > 1:
        above = axes.secondary_xaxis(
            "top",
            functions=(
                lambda x: np.interp(np.asarray(x), tokens, minutes),
                lambda x: np.interp(np.asarray(x), minutes, tokens),
            ),
        )
        above.set_xlabel("minutes")
    axes.legend(loc="upper right")
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png")
    partial.replace(path)
