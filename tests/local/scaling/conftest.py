"""Scaling is tested behind a front of its own."""

from tests.local.front import front, moto

__all__ = ["front", "moto"]
