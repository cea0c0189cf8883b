"""One emulated AWS for all tests of this folder."""

from collections.abc import Iterator

import pytest

from byollm.aws import Clients
from byollm.local.world import ACCESS_KEY, SECRET_KEY
from tests.lifecycle.emulated import BUCKET, Emulated, services, write_images
from tests.local.front import Front, front, moto

__all__ = ["front", "moto"]

FACTOR = 60  # so that a container has a minute to start in, of the hour that SageMaker gives at most


@pytest.fixture(scope="session")
def emulated(front: Front, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    directory = tmp_path_factory.mktemp("lifecycle")
    write_images(directory)
    with front(directory, services, FACTOR) as world, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        clients = Clients(world.region, world.address)
        place = {"LocationConstraint": world.region}
        clients.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)
        yield Emulated(clients, tmp_path_factory.mktemp("models"), world.address)
