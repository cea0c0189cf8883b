"""One emulated AWS for all tests of this folder, and one for those that kill it."""

from collections.abc import Iterator

import pytest

from tests.local.front import front, moto
from tests.local.running import Mortal, Platform, start_platform

__all__ = ["front", "moto"]


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = start_platform(tmp_path_factory.mktemp("aws"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    """Another one, to be killed and started again by tests that leave it running."""
    started = Mortal(start_platform(tmp_path_factory.mktemp("mortal")))
    yield started
    started.platform.stop()
