"""`make image-test` builds the image and names it; without a name these tests have nothing to test."""

import os
from collections.abc import Iterator

import pytest

from tests.containers.support import Container, command, container


@pytest.fixture(scope="session")
def image() -> str:
    """The image under test; that it cannot be found or run is a failure."""
    name = os.environ.get("BYOLLM_IMAGE")
    if name is None:
        pytest.skip("no image was built for these tests: `make image-test` does it")
    command("image", "inspect", name)
    return name


@pytest.fixture(scope="session")
def images() -> str:
    """What the names of all images begin with; that one cannot be found or run is a failure."""
    if (name := os.environ.get("BYOLLM_IMAGES")) is None:
        pytest.skip("no images were built for these tests: `make images-test` does it")
    return name


@pytest.fixture(scope="session")
def served(image: str) -> Iterator[Container]:
    """The container that most tests share."""
    with container(image) as running:
        running.wait_until_ready()
        yield running
