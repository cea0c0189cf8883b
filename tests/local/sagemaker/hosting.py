"""What tests of endpoints do again and again, through unmodified boto3 clients."""

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from byollm.local.world import ACCESS_KEY, SECRET_KEY, World

REPOSITORY = "byollm-test/inference@sha256:1"
IMAGE = f"123456789012.dkr.ecr.ca-central-1.amazonaws.com/{REPOSITORY}"
ROLE = "arn:aws:iam::123456789012:role/test"
TYPE = "ml.g5.xlarge"
SETTLED = ("InService", "Failed")
Members = dict[str, Any]


def write_images(directory: Path) -> None:
    """Say what the one image is: the script beside."""
    images = {REPOSITORY: [sys.executable, "-S", str(Path(__file__).with_name("container.py"))]}
    (directory / "images.json").write_text(json.dumps(images))


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Return what the condition says once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
    return found


def error_of(call: Callable[[], Any]) -> Members:
    """Return the error that a call is refused with: its code, message and status, and its own members."""
    try:
        call()
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return {**error.response, **error.response["Error"], "Status": status}
    raise AssertionError("it was not refused")


class Hosting:
    """Models and endpoints of one world."""

    _numbers = itertools.count()

    def __init__(self, world: World) -> None:
        self.world = world
        self.sagemaker = world.client("sagemaker")
        self.runtime = self.runtime_client()

    def runtime_client(self, secret: str = SECRET_KEY) -> Any:
        session = boto3.session.Session(ACCESS_KEY, secret, region_name=self.world.region)
        once = Config(retries={"total_max_attempts": 1}, read_timeout=90)
        return session.client("sagemaker-runtime", endpoint_url=self.world.address, config=once)

    def name(self, word: str) -> str:
        return f"{word}-{next(self._numbers)}"

    def model(self, url: str | None = None, **environment: str) -> str:
        name = self.name("model")
        container: Members = {"Image": IMAGE, "Environment": environment}
        if url is not None:
            source = {"S3Uri": url, "S3DataType": "S3Prefix", "CompressionType": "None"}
            container["ModelDataSource"] = {"S3DataSource": source}
        self.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
        return name

    def variant(self, name: str = "main", count: int = 1, weight: float = 1, **environment: str) -> Members:
        return {
            "VariantName": name,
            "ModelName": self.model(NAME=name, **environment),
            "InstanceType": TYPE,
            "InitialInstanceCount": count,
            "InitialVariantWeight": weight,
            "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
            "ContainerStartupHealthCheckTimeoutInSeconds": 3600,
        }

    def config(self, *variants: Members, **members: Any) -> str:
        name = self.name("config")
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=list(variants), **members
        )
        return name

    def endpoint(self, *variants: Members, **members: Any) -> str:
        """Create an endpoint and wait until it is settled."""
        name = self.name("endpoint")
        self.sagemaker.create_endpoint(
            EndpointName=name, EndpointConfigName=self.config(*variants, **members)
        )
        self.settled(name)
        return name

    def status(self, name: str) -> str:
        return str(self.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])

    def settled(self, name: str) -> Members:
        """Return the endpoint once nothing is under way."""
        eventually(lambda: self.status(name) in SETTLED)
        described: Members = self.sagemaker.describe_endpoint(EndpointName=name)
        return described

    def hurried(self, name: str) -> Members:
        """Return the endpoint once nothing is under way, with no more waiting between its steps."""
        clock = self.world.clock

        def over() -> bool:
            clock.began -= 3600 / (clock.factor - 1)  # an hour has gone by
            return self.status(name) in SETTLED

        eventually(over)
        return self.settled(name)

    def update(self, name: str, *variants: Members, **members: Any) -> None:
        self.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=self.config(*variants), **members
        )

    def invoke(self, name: str, **asked: Any) -> Members:
        members = {key: asked.pop(key) for key in list(asked) if key[0].isupper()}
        body = json.dumps(asked)
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body, **members)
        said: Members = json.loads(answer["Body"].read())
        return said

    def stream(self, name: str, **asked: Any) -> Any:
        members = {key: asked.pop(key) for key in list(asked) if key[0].isupper()}
        body = json.dumps(asked)
        answer = self.runtime.invoke_endpoint_with_response_stream(EndpointName=name, Body=body, **members)
        return answer["Body"]

    def log(self, name: str) -> str:
        """Everything that the containers of an endpoint have written."""
        folder = self.world.directory / "logs" / "aws" / "sagemaker" / "Endpoints" / name
        return "".join(path.read_text() for path in sorted(folder.glob("*.log")))

    def logged(self, group: str) -> list[tuple[str, str]]:
        """What CloudWatch has of a log group: the stream of each event, and its message."""
        logs = self.world.client("logs")
        try:
            events = logs.filter_log_events(logGroupName=group)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return []
        return [(event["logStreamName"], event["message"]) for event in events]

    def pids(self, name: str, calls: int = 12, **members: Any) -> set[int]:
        return {self.invoke(name, **members)["pid"] for _ in range(calls)}

    def delete(self, name: str) -> None:
        self.sagemaker.delete_endpoint(EndpointName=name)
        eventually(lambda: not self.exists(name))

    def exists(self, name: str) -> bool:
        listed = self.sagemaker.list_endpoints(NameContains=name)["Endpoints"]
        return name in [endpoint["EndpointName"] for endpoint in listed]
