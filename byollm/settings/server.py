"""The HTTP server in front of the engine."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from byollm.settings.base import Section

NamedPaths = dict[Annotated[str, Field(min_length=1, max_length=128)], Path]


class ServerSettings(Section):
    """The HTTP server in front of the engine."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on. On a loopback address, requests that name another host, or come from
    another site's page, are refused; a container listens on 0.0.0.0."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """The port to listen on; 0 takes a free one."""
    model: Path | None = None
    """The model directory, in Hugging Face's layout; by default the one that the repository carries."""
    model_name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The name that clients ask for; by default that of the model's directory."""
    embedding_model: Path | None = None
    """Directory of a sentence model for embeddings, in sentence-transformers' layout, served under the
    directory's name; it needs `pip install 'byollm[sentence]'`. By default the model itself embeds."""
    adapters: Path | None = None
    """A directory of LoRA adapters, one in each of its directories: they are served under these names, and
    under it others may be loaded while the server runs. By default `adapters` in the model's directory, if
    there is one."""
    named_adapters: NamedPaths = {}  # noqa: RUF012 (pydantic copies it)
    """Adapters that are served from the start, by name, wherever they are, such as {legal: runs/legal}."""
    max_requests: Annotated[int, Field(ge=1)] = 256
    """Generating requests held at a time, running or waiting; one more is refused with status 429."""
    max_choices: Annotated[int, Field(ge=1, le=2048)] = 128
    """Answers that one request may ask for: its prompts times `n`."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 25 * 2**20
    """The largest request body; SageMaker's own limit is 25 MB."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """How long a plain call may take, from its first byte to its answer; SageMaker waits 60 s."""
    stream_timeout_s: Annotated[float, Field(gt=0)] = 480.0
    """How long a streamed answer may take; SageMaker streams for at most 8 minutes."""
    keep_alive_s: Annotated[float, Field(gt=0)] = 10.0
    """A stream that has sent nothing for this long sends a comment, so that no proxy takes it for dead."""
    drain_s: Annotated[float, Field(ge=0, le=20)] = 20.0
    """After SIGTERM, how long running requests may take to finish; the process is gone within 25 s."""
    access_log: bool = False
    """Write a line to standard error for each request."""
