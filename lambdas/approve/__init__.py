"""Marks a version of the model approved or rejected."""
