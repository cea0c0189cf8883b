"""Pictures of what was measured: how many times as good as the first variant."""

from pathlib import Path
from typing import Any

from bench.optimization.document import ratio
from bench.optimization.techniques import METRICS, Technique

STYLES = ("-", "--", ":", "-.")  # one a context
COLOURS = ("#2171b5", "#d94801", "#238b45", "#6a51a3")  # one a variant


def draw(technique: Technique, measured: dict[str, Any] | None, folder: Path) -> None:
    """Draw a technique's ratios over the batch, a panel for each model and metric, if it was measured."""
    if not measured:
        return
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    runs = {model: run["rows"] for model, run in measured.items()}
    metrics = list(dict.fromkeys(name for rows in runs.values() for row in rows for name in row["values"]))
    contexts = sorted({row["context"] for rows in runs.values() for row in rows})
    places = [(model, metric) for model in runs for metric in metrics]
    size = (3.6 * len(places), 3.2)
    with rc_context({"svg.hashsalt": technique.key, "font.size": 8}):  # the same figures, the same file
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(places), squeeze=False)[0]
        for panel, (model, metric) in zip(panels, places, strict=True):
            rows = runs[model]
            for colour, variant in zip(COLOURS, technique.variants[1:], strict=False):
                for style, context in zip(STYLES, contexts, strict=False):
                    line = [
                        (row["batch"], value)
                        for row in rows
                        if (row["context"], row["variant"]) == (context, variant.name)
                        and (value := ratio(technique, rows, row, metric)) is not None
                    ]
                    if line:
                        label = f"{variant.name}, context {context}"
                        panel.plot(*zip(*line, strict=True), f"o{style}", color=colour, label=label)
            panel.axhline(1, color="black", linewidth=0.6)
            panel.set_xscale("log", base=2)
            batches = sorted({row["batch"] for row in rows})
            panel.set_xticks(batches, [str(batch) for batch in batches])
            panel.set_ylim(bottom=0)
            panel.set(title=f"{model}: {METRICS[metric].label}", xlabel="requests at a time")
            panel.grid(alpha=0.3)
        panels[0].set_ylabel(f"times as good as {technique.variants[0].name}")
        panels[0].legend(fontsize=7)
        figure.suptitle(technique.title)
        figure.savefig(folder / f"{technique.key}.svg", format="svg", metadata={"Date": None})
