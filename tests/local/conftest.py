"""One emulated AWS for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.local.front import front, moto
from tests.local.running import Platform, start_platform

__all__ = ["front", "moto"]


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    running = start_platform(tmp_path_factory.mktemp("aws"))
    yield running
    running.stop()
