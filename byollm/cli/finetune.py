"""`byollm finetune`: teach a model to answer."""

from pathlib import Path
from typing import Annotated

import typer


def finetune(
    base: Annotated[Path, typer.Option(help="The model directory to start from.")] = Path(
        "var/runs/pretrain/model"
    ),
    full: Annotated[
        bool, typer.Option("--full", help="Train all weights: the one way that there is so far, so give it.")
    ] = False,
    conversations: Annotated[
        Path | None,
        typer.Option(
            help="What `byollm data conversations` wrote; `conversations` under data.output if not given."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The directory of the run.")] = Path("var/runs/finetune"),
    epochs: Annotated[float | None, typer.Option(help="Read the conversations this many times.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Train for about this long.")] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses the order of the data.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; 0: all cores.")] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Teach a model to answer: the pretraining loop over conversations, with loss on the answers only.

    The same command continues a run that was stopped or killed. The recipe is the settings under `finetune`.
    """
    from byollm.cli.training_run import chosen_budget, report
    from byollm.settings import SettingsError, load_settings

    if not full:
        raise SettingsError(
            "only full fine-tuning is there so far: add --full. Adapters (LoRA) are trained with PEFT, and "
            "served here: docs/training.md shows how."
        )
    if not base.is_dir():
        raise SettingsError(
            f"no model directory {base}: name the model to start from with --base. `byollm pretrain` leaves "
            "one in var/runs/pretrain/model"
        )
    settings = load_settings(env)
    recipe = settings.finetune.override(
        budget=chosen_budget(epochs=epochs, minutes=minutes), seed=seed, threads=threads
    )
    from byollm.training.finetune import finetune as run

    report(run(recipe, base, conversations or settings.data.output / "conversations", out), out)
