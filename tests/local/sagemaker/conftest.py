"""SageMaker on a fast clock, with moto's S3 and CloudWatch beside it, for all tests of this folder."""

from collections.abc import Iterator

import pytest

from byollm.local.containers import Containers
from byollm.local.sagemaker import SageMaker
from tests.local.front import Front
from tests.local.sagemaker.hosting import Hosting, write_images

FACTOR = 60


@pytest.fixture(scope="session")
def hosting(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosting]:
    directory = tmp_path_factory.mktemp("sagemaker")
    write_images(directory)
    services = lambda world: {"sagemaker": SageMaker(world, Containers(world))}  # noqa: E731
    with front(directory, services, FACTOR) as world:
        yield Hosting(world)
