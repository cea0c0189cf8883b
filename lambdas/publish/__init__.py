"""Registers a version of the model."""
