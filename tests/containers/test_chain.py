"""The images together: the page asks the gateway, the gateway an endpoint that runs the inference image."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import openai
import pytest
from playwright.sync_api import Page, expect

from byollm.local.containers import Containers
from byollm.local.sagemaker import SageMaker
from byollm.local.world import ACCESS_KEY, SECRET_KEY, World
from tests.containers.support import HARDENED, MODEL, START_S, command
from tests.frontend.conftest import browser, open_page, opener, outside, profile
from tests.frontend.support import Chat
from tests.local.front import Front, front, moto
from tests.local.sagemaker.hosting import ROLE, SETTLED, TYPE, Hosting, eventually
from tests.ports import free_port

__all__ = ["browser", "front", "moto", "open_page", "opener", "outside", "profile"]

IMAGE = "byollm-chain/inference@sha256:1"


@pytest.fixture(scope="module")
def endpoint(
    images: str, front: Front, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, str]]:
    """An endpoint of the emulated SageMaker whose container is podman's or Docker's."""
    directory = tmp_path_factory.mktemp("chain")
    (directory / "images.json").write_text(json.dumps({IMAGE: f"{images}-inference"}))

    def services(world: World) -> dict[str, Any]:
        return {"sagemaker": SageMaker(world, Containers(world))}

    with front(directory, services, factor=10) as world:
        s3 = world.client("s3")
        s3.create_bucket(Bucket="chain", CreateBucketConfiguration={"LocationConstraint": world.region})
        for file in MODEL.iterdir():
            s3.upload_file(str(file), "chain", f"model/{file.name}")
        hosting = Hosting(world)
        source = {"S3Uri": "s3://chain/model/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container = {"Image": IMAGE, "ModelDataSource": {"S3DataSource": source}}
        world.client("sagemaker").create_model(
            ModelName="chain", PrimaryContainer=container, ExecutionRoleArn=ROLE
        )
        config = hosting.config(
            {
                "VariantName": "main",
                "ModelName": "chain",
                "InstanceType": TYPE,
                "InitialInstanceCount": 1,
                "InitialVariantWeight": 1,
                "ContainerStartupHealthCheckTimeoutInSeconds": 3600,
            }
        )
        name = hosting.name("endpoint")
        hosting.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        eventually(lambda: hosting.status(name) in SETTLED, START_S)
        assert (found := hosting.settled(name))["EndpointStatus"] == "InService", found["FailureReason"]
        yield world, name
        hosting.delete(name)


@pytest.fixture(scope="module")
def chain(images: str, endpoint: tuple[World, str]) -> Iterator[tuple[str, str]]:
    """The addresses of the gateway and of the page, each a hardened container."""
    world, name = endpoint
    gateway, page = free_port(), free_port()
    told = {
        "gateway": {
            "BYOLLM__GATEWAY__ENDPOINT": name,
            "BYOLLM__GATEWAY__PORT": str(gateway),
            "BYOLLM__AWS__REGION": world.region,
            "AWS_ENDPOINT_URL": world.address,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        },
        "frontend": {
            "BYOLLM__PAGE__API": f"http://127.0.0.1:{gateway}",
            "BYOLLM__PAGE__PORT": str(page),
        },
    }
    with ExitStack() as stack:
        for image, variables in told.items():
            given = [word for pair in variables.items() for word in ("--env", "=".join(pair))]
            run = ("run", "--detach", "--network", "host", *HARDENED, *given, f"{images}-{image}")
            started = command(*run).strip()
            stack.callback(command, "rm", "--force", started)
        addresses = f"http://127.0.0.1:{gateway}", f"http://127.0.0.1:{page}"
        _wait(lambda: httpx.get(f"{addresses[0]}/health", timeout=5))
        _wait(lambda: httpx.get(addresses[1], timeout=5))
        yield addresses


def test_a_client_streams_through_gateway_and_endpoint(chain: tuple[str, str]) -> None:
    client = openai.OpenAI(base_url=f"{chain[0]}/v1", api_key="none", max_retries=0, timeout=60)
    stream = client.chat.completions.create(
        model="model", messages=[{"role": "user", "content": "Who are you?"}], max_tokens=8, stream=True
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said.strip()


def test_the_page_answers(chain: tuple[str, str], open_page: Callable[..., Page]) -> None:
    chat = Chat(open_page(chain[1]))
    chat.ask_and_wait("Who are you?")
    # What it says is drawn anew each time; that it came is what the three images are tried for.
    expect(chat.answers.last).to_contain_text(re.compile(r"\w"))


def _wait(ask: Callable[[], httpx.Response]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if ask().status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)
