"""The API gateway: where it listens, which endpoint it passes calls to, and how much it takes at a time."""

from typing import Annotated

from pydantic import Field

from byollm.settings.base import Section
from byollm.settings.endpoint import Name


class GatewaySettings(Section):
    """The OpenAI API in front of the SageMaker endpoint."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. On a loopback address, requests that name another host, or come from
    another site's page, are refused; a container listens on 0.0.0.0."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """The port to listen on; 0 takes a free one."""
    endpoint: Name | None = None
    """The endpoint that calls are passed to; by default `byollm-<env>`."""
    component: Name | None = None
    """The inference component behind it. By default `byollm-<env>-main` where `endpoint.hosting` is
    `component`; none where it is not, or where an endpoint is named here."""
    model_name: Annotated[str, Field(min_length=1, max_length=256)] = "model"
    """The name that the endpoint's containers serve their model under; `/v1/models` tells it until they tell
    more."""
    max_requests: Annotated[int, Field(ge=1)] = 512
    """Requests under way at a time; one more is answered with status 503."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 25 * 2**20
    """The largest request body; SageMaker's own limit is 25 MB."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 65.0
    """How long a plain call may take; SageMaker waits 60 s for the container."""
    stream_timeout_s: Annotated[float, Field(gt=0)] = 490.0
    """How long a streamed answer may take; SageMaker streams for at most 8 minutes."""
    silence_s: Annotated[float, Field(gt=0)] = 65.0
    """How long a stream may bring nothing; the containers send a comment every few seconds."""
    drain_s: Annotated[float, Field(ge=0, le=110)] = 100.0
    """After SIGTERM, how long running requests may take to finish; Fargate kills after 120 s at most."""
