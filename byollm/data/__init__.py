"""Corpora and conversations in, validated and packed tokens out."""

from byollm.data.errors import DataError

__all__ = ["DataError"]
