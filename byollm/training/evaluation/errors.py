"""The errors of evaluation."""

from byollm.training.errors import TrainingError


class EvaluationError(TrainingError):
    """A model cannot be evaluated as asked: an unknown task, an absent pack, a text that does not fit."""
