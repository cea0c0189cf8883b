"""The errors of modeling: each says what was wrong, what was expected and what to do."""

from byollm.settings.errors import ByollmError


class ModelingError(ByollmError):
    """The root of this package's errors."""


class ModelConfigError(ModelingError):
    """A decoder cannot have this shape, or a family cannot express it."""


class CheckpointError(ModelingError):
    """A model directory is absent, incomplete, damaged, or of a kind that is not supported."""


class TokenizerError(ModelingError):
    """A tokenizer directory is absent or damaged, or lacks what was asked of it."""


class AdapterError(ModelingError):
    """An adapter that is absent, damaged, or not for this model; the message names no directory."""


class QuantisationError(ModelingError):
    """Weights cannot be packed."""
