"""`byollm train`: what a training container of SageMaker runs."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    root: Annotated[
        Path, typer.Option(envvar="BYOLLM_OPT_ML", help="Where SageMaker lays the job out.")
    ] = Path("/opt/ml"),
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
) -> None:
    """Run a SageMaker training job: hyperparameters and data from /opt/ml, checkpoints and the model to it.

    A job whose instance was taken away goes on from its last checkpoint. Elsewhere, `byollm pretrain` and
    `byollm finetune` do the same.
    """
    from byollm.cli.training_run import report
    from byollm.settings import load_settings
    from byollm.training.job import run_job, tell_failure

    try:
        outcome = run_job(root, load_settings(env))
    except Exception as error:
        tell_failure(root, error)
        raise
    report(outcome, root / "checkpoints" / "run")
