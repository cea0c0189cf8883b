"""Pretraining and fine-tuning on one loop; a run that is killed at any moment resumes exactly."""

from byollm.training.errors import DivergenceError, ResumeError, TrainingError

__all__ = ["DivergenceError", "ResumeError", "TrainingError"]
