"""boto3's clients, made once each, all from one region and one address."""

from threading import Lock
from typing import Any, Self

import boto3
from botocore.config import Config

from byollm.settings.aws import AwsSettings

PATIENCE = Config(
    connect_timeout=5,
    read_timeout=70,  # an endpoint may take 60 s to answer
    user_agent_extra="byollm",
)


class Clients:
    """The clients of one region; threads may share them.

    Args:
        region: by default that of the environment or the profile.
        endpoint_url: of an emulated AWS; by default `AWS_ENDPOINT_URL` where it is set, else AWS itself.
        attempts: how often a call is tried before it has failed.
    """

    def __init__(self, region: str | None = None, endpoint_url: str | None = None, attempts: int = 5) -> None:
        self._region, self._address = region, endpoint_url
        self._config = PATIENCE.merge(Config(retries={"mode": "standard", "total_max_attempts": attempts}))
        self._session: boto3.session.Session | None = None
        self._made: dict[str, Any] = {}
        self._lock = Lock()  # boto3 makes clients in one thread at a time

    @classmethod
    def of(cls, settings: AwsSettings) -> Self:
        """Return the clients of an environment."""
        return cls(settings.region, settings.endpoint_url)

    def client(self, service: str) -> Any:
        """Return the client of `service`, boto3's name of it."""
        with self._lock:
            if service not in self._made:
                self._session = self._session or boto3.session.Session(region_name=self._region)
                self._made[service] = self._session.client(
                    service, endpoint_url=self._address, config=self._config
                )
            return self._made[service]
