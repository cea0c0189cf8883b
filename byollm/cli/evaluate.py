"""`byollm evaluate`: how good a model is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from byollm.settings import EngineSettings
    from byollm.training.evaluation.report import Report
    from byollm.training.evaluation.tasks import Score


def evaluate(
    model: Annotated[Path, typer.Option(help="The model directory.")],
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Tasks, separated by commas: blimp, a part of it such as blimp_island_effects, a YAML file "
            "in lm-eval's format, or a task of lm-eval's own (which downloads its data). By default blimp, "
            "or none where --prepared or --samples says what is wanted."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The directory with the packs; data.directory if not given.")
    ] = None,
    prepared: Annotated[
        Path | None,
        typer.Option(help="Prepared data whose held-out text to predict: loss, accuracy, bits per byte."),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Write what the model makes of fixed prompts to this Markdown file.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Run only so many samples of every task.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write all figures to this JSON file.")] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Measure a model: BLiMP and other tasks through lm-eval, held-out text, sample outputs."""
    import json
    import logging
    import os

    from rich.console import Console

    os.environ.setdefault("TQDM_DISABLE", "1")  # lm-eval and datasets draw a bar a task; we draw one
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from byollm.settings import load_settings
    from byollm.training.evaluation.progress import progress
    from byollm.training.evaluation.report import evaluate_model

    settings = load_settings(env)
    if tasks is None:
        tasks = "blimp" if prepared is None and samples is None else ""
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    console = Console()
    if samples is not None:
        ours = settings.engine.override(backend="byollm", vllm={}, dtype="float32")
        _write(samples, _samples(model, ours))
        console.print(f"samples: {samples}")
    if not names and prepared is None and samples is not None:
        return
    report = evaluate_model(
        model, settings.pretrain, progress, names, data or settings.data.directory, prepared, limit
    )
    if out is not None:
        _write(out, json.dumps(report.as_json(), indent=2) + "\n")
    console.print(_table(report))
    if report.held_out is not None:
        console.print(
            f"held-out text: loss {report.held_out.loss:.4f}, accuracy {report.held_out.accuracy:.2%}, "
            f"{report.held_out.bits_per_byte:.4f} bits per byte over {report.held_out.tokens:,} tokens"
        )
    console.print(f"{report.parameters:,} parameters, {report.seconds:.0f} s")


def _table(report: "Report") -> "Table":
    """Lay out scores: groups, and what is one level below them; the JSON has all."""
    from rich.table import Table

    table = Table(title=report.model)
    table.add_column("task", no_wrap=True)
    for column in ("samples", "metric", "score", "std. error", "chance"):
        table.add_column(column, justify="right")
    for score in report.tasks:
        for part in [score, *score.parts]:
            _add(table, part, "" if part is score else "  ")
    return table


def _add(table: "Table", score: "Score", indent: str) -> None:
    for metric, value in score.metrics.items():
        if metric.endswith("_stderr"):
            continue
        error = score.metrics.get(f"{metric}_stderr")
        table.add_row(
            indent + score.task,
            f"{score.samples:,}",
            metric,
            f"{value:.2%}" if metric.startswith("acc") else f"{value:.4f}",
            "" if error is None else f"{error:.2%}" if metric.startswith("acc") else f"{error:.4f}",
            "" if score.chance is None else f"{score.chance:.0%}",
        )


def _samples(model: Path, settings: "EngineSettings") -> str:
    """Return sample outputs of the model, made by the engine, as Markdown."""
    from byollm.engine import Engine, SamplingParams
    from byollm.training.evaluation.samples import MAX_TOKENS, SEED, TOP_P, draw_samples, samples_as_markdown

    engine = Engine.load(model, settings)

    def generate(prompts: "Sequence[Sequence[int]]", temperature: float) -> list[str]:
        texts = [""] * len(prompts)
        for number, prompt in enumerate(prompts):
            room = max(1, min(MAX_TOKENS, engine.max_context - len(prompt)))
            params = SamplingParams(max_tokens=room, temperature=temperature, top_p=TOP_P, seed=SEED)
            engine.add_request(str(number), prompt, params)
        while engine.has_unfinished():
            for output in engine.step():
                texts[int(output.request_id)] += output.text
        return texts

    assert engine.tokenizer is not None  # Engine.load always reads one
    return samples_as_markdown(draw_samples(engine.tokenizer, generate))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
