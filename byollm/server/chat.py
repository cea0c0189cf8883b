"""OpenAI's chat completions: the request, and the answer in its two forms."""

import time
import uuid
from typing import Annotated, Any, ClassVar, Literal, Self

import orjson
from pydantic import BeforeValidator, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from byollm.engine import Output, SamplingParams
from byollm.server.answers import Choice, Usage, event
from byollm.server.fingerprint import FINGERPRINT
from byollm.server.logprobs import Vocabulary, chat_logprobs
from byollm.server.parameters import OpenAISampling, Parameters, broken_rule


class TextPart(Parameters):
    """A piece of a message."""

    neutral: ClassVar = {"prompt_cache_breakpoint": ()}

    type: Literal["text"]
    text: str


def _parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise PydanticCustomError("content_type", "Input should be a string or a list of text parts")
    return content


class Message(Parameters):
    """One message of the conversation."""

    neutral: ClassVar = {
        "annotations": ([],),
        "audio": (),
        "function_call": (),
        "refusal": (),
        "tool_calls": ([],),
    }

    role: Literal["developer", "system", "user", "assistant"]
    content: Annotated[
        list[TextPart],
        FailFast(),
        Field(min_length=1, max_length=2048),
        BeforeValidator(_parts, json_schema_input_type=str | list[TextPart]),
    ]
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None

    def to_template(self) -> dict[str, str]:
        """The message as chat templates know it; `developer` is OpenAI's newer word for `system`."""
        role = "system" if self.role == "developer" else self.role
        message = {"role": role, "content": "\n".join(part.text for part in self.content)}
        return message if self.name is None else message | {"name": self.name}


Conversation = Annotated[list[Message], FailFast(), Field(min_length=1, max_length=2048)]


class ChatRequest(OpenAISampling):
    """The body of `POST /v1/chat/completions`."""

    neutral: ClassVar = {
        "audio": (),
        "function_call": ("none",),
        "functions": ([],),
        "modalities": (["text"],),
        "moderation": (),
        "prediction": (),
        "prompt_cache_options": (),
        "prompt_cache_retention": ("in_memory",),
        "reasoning_effort": ("none",),
        "response_format": ({"type": "text"},),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "tool_choice": ("none",),
        "tools": ([],),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    messages: Conversation
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    metadata: Annotated[dict[str, str], Field(max_length=16)] = Field(default_factory=dict)
    """Accepted, as are the three below; they change nothing."""
    safety_identifier: str = ""
    prompt_cache_key: str = ""
    parallel_tool_calls: bool = True

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if "top_logprobs" in self.model_fields_set and not self.logprobs:
            raise broken_rule("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.")
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise broken_rule(
                "max_tokens", "'max_tokens' and 'max_completion_tokens' differ; give one of them."
            )
        return self

    @property
    def limit(self) -> int | None:
        """The most tokens to generate for each choice, if the client said so."""
        return self.max_completion_tokens or self.max_tokens

    def sampling_params(self) -> SamplingParams:
        """What the engine is asked for."""
        return self.params(self.limit, self.n, self.top_logprobs if self.logprobs else None)


class ChatFormat:
    """Writes chat completions and their chunks.

    Args:
        request: the request.
        vocabulary: knows the bytes of tokens, for log-probabilities.
    """

    def __init__(self, request: ChatRequest, vocabulary: Vocabulary) -> None:
        self._request = request
        self._vocabulary = vocabulary
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": FINGERPRINT,
        }
        # A chunk of text is by far the most frequent event: everything but the text is serialised once.
        usage = b',"usage":null' if request.include_usage else b""
        head = orjson.dumps(self._head | {"object": "chat.completion.chunk"})[:-1]
        self._before = [
            b"data: " + head + b',"choices":[{"index":%d,"delta":' % choice for choice in range(request.n)
        ]
        self._after = b"}]" + usage + b"}\n\n"
        self._closing_head = head

    def _chunk(self, choice: int, delta: bytes, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b"".join(
            (
                self._before[choice],
                delta,
                b',"logprobs":',
                logprobs,
                b',"finish_reason":',
                finish,
                self._after,
            )
        )

    def opening(self) -> bytes:
        """A chunk for each choice that says who speaks."""
        delta = b'{"role":"assistant","content":"","refusal":null}'
        return b"".join(self._chunk(choice, delta) for choice in range(self._request.n))

    def events(self, choice: int, output: Output) -> bytes:
        """A chunk with the new text, and one with the reason of the end."""
        events = b""
        if output.text or output.logprobs:
            logprobs = b"null"
            if output.logprobs is not None:
                logprobs = orjson.dumps(chat_logprobs(output.logprobs, self._vocabulary))
            events = self._chunk(choice, b'{"content":' + orjson.dumps(output.text) + b"}", logprobs)
        if output.finish_reason is not None:
            events += self._chunk(choice, b"{}", finish=orjson.dumps(output.finish_reason))
        return events

    def closing(self, usage: Usage) -> bytes:
        """The usage, if asked for, and the end mark."""
        counted = b""
        if self._request.include_usage:
            counted = event(
                self._closing_head + b',"choices":[],"usage":' + orjson.dumps(usage.to_json()) + b"}"
            )
        return counted + event(b"[DONE]")

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The completion in one piece."""
        written = [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(choice.text), "refusal": None},
                "logprobs": chat_logprobs(choice.logprobs, self._vocabulary)
                if self._request.logprobs
                else None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ]
        return orjson.dumps(self._head | {"choices": written, "usage": usage.to_json()})
