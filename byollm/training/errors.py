"""The errors of training: each says what was wrong, what was expected and what to do."""

from byollm.settings import ByollmError


class TrainingError(ByollmError):
    """The root of this package's errors."""


class ResumeError(TrainingError):
    """A run cannot be continued: other settings, other data, or no checkpoint that can be read."""


class DivergenceError(TrainingError):
    """The loss or the gradient is no longer a finite number."""
