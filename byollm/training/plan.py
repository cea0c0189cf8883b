"""How many steps a run takes: fixed before the first, so that a resumed run ends as an unbroken one does."""

import math
import statistics
import time

import torch

from byollm.settings.training import Recipe
from byollm.training.optimizers import Optimizers
from byollm.training.stepper import Stepper
from byollm.training.validation import Validator

TIMED_STEPS = 12
TIMED_SECONDS = 20.0
FINISHING_SECONDS = 5.0  # saving the model, drawing the curve


def total_steps(
    recipe: Recipe, stepper: Stepper, validator: Validator, windows_per_epoch: int, started: float
) -> int:
    """Return the steps that the recipe's budget allows.

    Args:
        windows_per_epoch: rows in an epoch of the training split
        started: when the run started (`time.perf_counter`), for a budget in minutes
    """
    amount = recipe.budget.amount
    match recipe.budget.unit:
        case "steps":
            steps = amount
        case "tokens":
            steps = amount / stepper.tokens
        case "epochs":
            steps = amount * windows_per_epoch / (recipe.batch_size * recipe.accumulation)
        case "minutes":
            return _steps_in_time(60 * amount, recipe, stepper, validator, started)
    return max(1, math.ceil(steps))


def _steps_in_time(
    seconds: float, recipe: Recipe, stepper: Stepper, validator: Validator, started: float
) -> int:
    """Time a few steps and a validation, put everything back, and divide the time that is left."""
    before = {name: tensor.clone() for name, tensor in stepper.model.state_dict().items()}
    times = list[float]()
    stepper.take(0, 1)  # compiles
    until = time.perf_counter() + TIMED_SECONDS
    while len(times) < 3 or (len(times) < TIMED_STEPS and time.perf_counter() < until):
        start = time.perf_counter()
        stepper.take(len(times) + 1, TIMED_STEPS + 1)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    found = validator.validate(stepper.model, recipe.validation_tokens)
    validation = time.perf_counter() - start
    stepper.model.load_state_dict(before)
    stepper.optimizers = Optimizers(stepper.model, recipe)
    torch.manual_seed(recipe.seed)
    whole = validation * validator.windows * recipe.sequence_length / max(1, found.tokens)
    left = seconds - (time.perf_counter() - started) - recipe.validations * validation - whole
    return max(1, int((left - FINISHING_SECONDS) / statistics.mean(times)))
