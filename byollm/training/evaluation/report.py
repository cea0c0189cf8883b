"""Evaluates a model directory and gathers what was found."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from byollm.modeling import Tokenizer, load_decoder
from byollm.settings.training import Recipe
from byollm.training.evaluation.errors import EvaluationError
from byollm.training.evaluation.held_out import validate_held_out
from byollm.training.evaluation.progress import Advance
from byollm.training.evaluation.scorer import DecoderScorer
from byollm.training.evaluation.tasks import Score, run_tasks
from byollm.training.hardware import Hardware
from byollm.training.validation import Validation

Progress = Callable[[str], AbstractContextManager[Advance]]


@dataclass(frozen=True)
class Report:
    """What an evaluation found."""

    model: str
    parameters: int
    tasks: list[Score]
    held_out: Validation | None
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the report for a JSON file, with the versions of what made it."""
        versions = {name: version(name) for name in ("byollm", "lm_eval", "torch")}
        return asdict(self) | {"versions": versions}


def evaluate_model(
    directory: Path,
    recipe: Recipe,
    progress: Progress,
    tasks: Sequence[str] = (),
    packs: Path | None = None,
    prepared: Path | None = None,
    limit: int | None = None,
) -> Report:
    """Evaluate a model directory, in float32 wherever it runs.

    Args:
        directory: the model in Hugging Face's layout, with its tokenizer
        recipe: gives device, threads, and the rows of the validation
        progress: shows work of a name
        tasks: as `run_tasks` takes them
        packs: the data directory, for tasks made from a pack
        prepared: a directory of `byollm data prepare`, whose held-out text is to be predicted
        limit: run only this many samples of every task

    Raises:
        ByollmError: the model, a task or the data are not there or do not fit; the message says which.
    """
    if not tasks and prepared is None:
        raise EvaluationError("nothing to evaluate: name tasks, or the prepared data to be predicted")
    started = time.monotonic()
    hardware = Hardware.choose(recipe.override(precision="float32"))
    decoder = load_decoder(directory, torch.float32, hardware.device)
    tokenizer = Tokenizer.load(directory)
    held_out = None
    if prepared is not None:
        length = min(recipe.sequence_length, decoder.config.max_positions)
        with progress("held-out text") as advance:
            held_out = validate_held_out(
                decoder, directory / "tokenizer.json", prepared, length, recipe.batch_size, advance
            )
    scores: list[Score] = []
    if tasks:
        with progress("tasks") as advance:
            scores = run_tasks(DecoderScorer(decoder, tokenizer, advance), tasks, packs or Path(), limit)
    return Report(
        model=directory.resolve().name,
        parameters=decoder.config.num_parameters(),
        tasks=scores,
        held_out=held_out,
        seconds=round(time.monotonic() - started, 1),
    )
