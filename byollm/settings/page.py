"""The web page: where it listens, which model server it speaks to, what its controls start from."""

from typing import Annotated

from pydantic import Field, HttpUrl, field_validator

from byollm.settings.base import Section


class PageSettings(Section):
    """The web page."""

    host: str = "127.0.0.1"
    """Address to listen on. The default is for this machine only; `0.0.0.0` opens the page to the network."""
    port: Annotated[int, Field(ge=0, le=65535)] = 7860
    """Port to listen on; if taken, the next free one, unless the command line asked for it. 0 takes any."""
    api: str = "http://127.0.0.1:8080"
    """Base address of the model server that the page speaks to, without `/v1`."""
    examples: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = (
        "Who are you?",
        "What can you do?",
        "Why is the sky blue?",
        "Tell me a short story about a fox and a lantern.",
    )
    """Questions offered on the empty chat."""
    system_prompt: Annotated[str, Field(max_length=8000)] = ""
    """System prompt that a new session starts with; empty sends none."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Temperature that the control starts from; 0 is greedy. By default the served model's own."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus (top-p) that the control starts from; 1 is off. By default the served model's own."""
    top_k: Annotated[int, Field(ge=0, le=200)] | None = None
    """Top-k that the control starts from; 0 is off. By default the served model's own."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Min-p that the control starts from; 0 is off. By default the served model's own."""
    repetition_penalty: Annotated[float, Field(ge=1, le=2)] | None = None
    """Repetition penalty that the control starts from; 1 is off. By default the served model's own."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest answer in tokens that the control starts from."""
    max_message_characters: Annotated[int, Field(ge=1)] = 16_000
    """Longest message or system prompt that the page accepts."""
    connect_seconds: Annotated[float, Field(gt=0)] = 3.0
    """Patience with a model server that does not accept a connection or answer a short question."""
    silence_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Patience with a stream that brings nothing, not even a keep-alive."""
    poll_seconds: Annotated[float, Field(ge=0.5)] = 3.0
    """How often an open page asks whether the model server is there."""

    @field_validator("api")
    @classmethod
    def _an_address(cls, value: str) -> str:
        address = HttpUrl(value)
        if address.query or address.fragment or address.username or address.password:
            raise ValueError("give only scheme, host, port and path, such as http://127.0.0.1:8080")
        return value.rstrip("/").removesuffix("/v1")
