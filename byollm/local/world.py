"""Where an emulated AWS stands: its directory, address, account and clock."""

import asyncio
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import boto3
from botocore.config import Config

from byollm.local.clock import Clock
from byollm.local.store import Store

ACCOUNT = "123456789012"

ACCESS_KEY = "byollm"
SECRET_KEY = "byollm"  # noqa: S105 - opens nothing: requests come from this machine, and are checked for form


@dataclass(frozen=True)
class World:
    """One emulated AWS; two of them share nothing.

    Args:
        directory: where all it remembers is kept.
        port: where it listens, on this machine only.
        region: the one region it has.
    """

    directory: Path
    port: int
    region: str
    account: str = ACCOUNT
    clock: Clock = field(default_factory=Clock)

    @property
    def address(self) -> str:
        """The endpoint for every client. The name, not the number: templates are found under it."""
        return f"http://localhost:{self.port}"

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of `resource`, such as `endpoint/byollm-dev`."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def client(self, service: str) -> Any:
        """Return a boto3 client of this world. It blocks: from a coroutine, call it in a thread."""
        with _making:
            return _client(self.address, self.region, service)

    async def call(self, service: str, operation: str, /, **members: Any) -> Any:
        """Call an operation, such as `describe_alarms`, of a service of this world without blocking."""
        return await asyncio.to_thread(lambda: getattr(self.client(service), operation)(**members))

    def store(self, name: str) -> Store:
        """Return what the service `name` remembers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return Store(self.directory / f"{name}.sqlite")


_making = Lock()  # boto3 makes clients in one thread at a time


@cache
def _client(address: str, region: str, service: str) -> Any:
    patience = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=70)
    return _session(region).client(service, endpoint_url=address, config=patience)


@cache
def _session(region: str) -> boto3.session.Session:
    """Return the session of a region: what all services have in common is read once for it."""
    return boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=region)
