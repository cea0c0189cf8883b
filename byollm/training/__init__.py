"""Training: pretraining and fine-tuning on one loop, with checkpoints that a kill at any moment cannot spoil."""

from byollm.training.errors import DivergenceError, ResumeError, TrainingError

__all__ = ["DivergenceError", "ResumeError", "TrainingError"]
