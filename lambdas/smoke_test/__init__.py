"""Asks the endpoint a question."""
