"""An unmodified boto3 client understands what a `JsonService` answers."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import uvicorn
from botocore.exceptions import ClientError
from starlette.applications import Starlette
from starlette.routing import Route

from byollm.local.protocol import AwsError, JsonService, Members
from byollm.local.world import World


class Models(JsonService):
    def __init__(self) -> None:
        super().__init__("sagemaker", Tags())

    async def list_endpoints(self, given: Members) -> Members:
        return {"Endpoints": []}

    async def describe_model(self, given: Members) -> Members:
        if given["ModelName"] == "missing":
            raise AwsError("ValidationException", "Could not find model")
        return {"ModelName": given["ModelName"], "CreationTime": datetime(2026, 1, 2, tzinfo=UTC)}


class Tags:
    async def list_tags(self, given: Members) -> Members:
        return {"Tags": [{"Key": "of", "Value": given["ResourceArn"]}]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    app = Starlette(routes=[Route("/", Models().answer, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    socket = server.config.bind_socket()
    socket.listen()  # who comes before the server does waits
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])))
    thread.start()
    yield World(tmp_path_factory.mktemp("world"), socket.getsockname()[1], "ca-central-1")
    server.should_exit = True
    thread.join()


def test_members_and_times_arrive_as_the_model_says(world: World) -> None:
    answer = world.client("sagemaker").describe_model(ModelName="a")
    assert answer["ModelName"] == "a"
    assert answer["CreationTime"] == datetime(2026, 1, 2, tzinfo=UTC)


def test_a_part_of_a_service_answers_too(world: World) -> None:
    tags = world.client("sagemaker").list_tags(ResourceArn="arn:aws:x")["Tags"]
    assert tags == [{"Key": "of", "Value": "arn:aws:x"}]


def test_an_error_has_its_code_and_its_words(world: World) -> None:
    with pytest.raises(ClientError, match="Could not find model") as caught:
        world.client("sagemaker").describe_model(ModelName="missing")
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_a_value_that_is_none_of_those_allowed_is_named(world: World) -> None:
    wrong = "Value 'Huge' at 'sortBy' failed to satisfy constraint: Member must satisfy enum value set: "
    with pytest.raises(ClientError, match=f"1 validation error detected: {wrong}"):
        world.client("sagemaker").list_endpoints(SortBy="Huge")


def test_an_operation_that_is_not_emulated_is_refused_by_name(world: World) -> None:
    with pytest.raises(ClientError, match="ListModels is not emulated"):
        world.client("sagemaker").list_models()
