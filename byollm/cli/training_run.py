"""What the commands that train share: a budget from flags, and the word at the end."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from byollm.settings import SettingsError

if TYPE_CHECKING:
    from byollm.training.trainer import Outcome


def chosen_budget(**amounts: float | None) -> dict[str, Any] | None:
    """Return the budget that a flag asks for, None if none does.

    Raises:
        SettingsError: two flags ask.
    """
    given = {unit: amount for unit, amount in amounts.items() if amount is not None}
    if len(given) > 1:
        raise SettingsError(f"a run has one budget: give one of --{', --'.join(given)}")
    return next(({"unit": unit, "amount": amount} for unit, amount in given.items()), None)


def report(outcome: "Outcome", out: Path) -> None:
    """Say how a run ended; one that was interrupted ends the process as its signal would have."""
    if outcome.interrupted is not None and not outcome.finished:
        typer.echo(
            f"stopped by {outcome.interrupted.name} after step {outcome.steps} of {outcome.total_steps}. "
            "Run the same command again to continue from the last checkpoint.",
            err=True,
        )
        raise typer.Exit(128 + outcome.interrupted)
    typer.echo(f"model: {out / 'model'}\nsummary: {out / 'summary.json'}\ncurve: {out / 'curve.png'}")
