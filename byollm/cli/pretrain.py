"""`byollm pretrain`: a language model from scratch."""

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    data: Annotated[
        Path | None, typer.Option(help="What `byollm data prepare` wrote; data.output if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The directory of the run.")] = Path("var/runs/pretrain"),
    minutes: Annotated[float | None, typer.Option(help="Train for about this long.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Train on this many tokens, such as 20e6.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Chooses the first weights and the order of the data.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; 0: all cores.")] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Train a language model from scratch.

    The same command continues a run that was stopped or killed. The shape of the model and the recipe are the
    settings under `pretrain`.
    """
    from byollm.cli.training_run import chosen_budget, report
    from byollm.settings import load_settings

    settings = load_settings(env)
    recipe = settings.pretrain.override(
        budget=chosen_budget(minutes=minutes, tokens=tokens), seed=seed, threads=threads
    )
    from byollm.training.pretrain import pretrain as run

    report(run(recipe, data or settings.data.output, out), out)
