"""What is examined: one environment, its settings, and the AWS it is to be deployed to."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

from byollm.aws import Clients, listed
from byollm.settings import REPOSITORY, ByollmError, Settings


@dataclass(frozen=True)
class Patient:
    """One environment on its AWS.

    Args:
        env: the environment's name.
        settings: its whole tree.
        connect: makes the boto3 client of a service in a region.
        model: directory of the model that is to be served.
        repository: the checkout that is deployed from.
    """

    env: str
    settings: Settings
    connect: Callable[[str, str], Any]
    model: Path
    repository: Path = REPOSITORY

    @classmethod
    def of(cls, env: str, settings: Settings, model: Path, *, attempts: int = 5) -> Self:
        """Return an environment on the AWS that its settings name, where calls are tried so often."""
        clients = cache(lambda region: Clients(region, settings.aws.endpoint_url, attempts))
        return cls(env, settings, lambda service, region: clients(region).client(service), model)

    def client(self, service: str, region: str | None = None) -> Any:
        """Return the client of `service`, in the environment's region unless another is named."""
        return self.connect(service, region or self.settings.aws.region)

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region that stacks of the environment stand in."""
        return (self.settings.aws.region, *self.settings.storage.model_copies)

    @property
    def emulated(self) -> bool:
        """Whether its AWS is an emulated one."""
        return bool(self.settings.aws.endpoint_url or os.environ.get("AWS_ENDPOINT_URL"))

    def stacks(self, region: str | None = None) -> dict[str, str]:
        """Return the status of each of the environment's stacks in one region, by name."""
        found = listed(self.client("cloudformation", region), "describe_stacks", "Stacks")
        ours = f"byollm-{self.env}-"
        return {
            each["StackName"]: each["StackStatus"] for each in found if each["StackName"].startswith(ours)
        }

    def bucket(self, name: str) -> str:
        """Return the bucket that the storage stack calls so; CloudFormation chose its real name.

        Raises:
            ByollmError: it is not there.
        """
        stack = f"byollm-{self.env}-storage"
        if stack in self.stacks():
            found = listed(
                self.client("cloudformation"),
                "list_stack_resources",
                "StackResourceSummaries",
                StackName=stack,
            )
            for each in found:
                if each["ResourceType"] == "AWS::S3::Bucket" and each["LogicalResourceId"].startswith(name):
                    return str(each["PhysicalResourceId"])
        raise ByollmError(f"there is no bucket of {name.lower()}: run `byollm deploy --env {self.env}` first")
