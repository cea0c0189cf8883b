"""OpenAI's text completions: the request, and the answer in its two forms."""

import time
import uuid
from typing import Annotated, Any, ClassVar, Self

import orjson
from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from byollm.engine import Output, SamplingParams
from byollm.server.answers import Choice, Usage, event
from byollm.server.fingerprint import FINGERPRINT
from byollm.server.logprobs import CompletionLogprobs, Vocabulary
from byollm.server.parameters import OpenAISampling, broken_rule

MOST_PROMPTS = 2048  # as OpenAI has it
Prompts = str | list[str] | list[int] | list[list[int]]


def _prompts(prompt: Any) -> list[str | list[int]]:
    """Every form of prompt as a list of texts or token lists, checked as fast as millions of ids need."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        kinds = set(map(type, prompt))
        if kinds <= {str, list} and len(prompt) > MOST_PROMPTS:
            raise PydanticCustomError(
                "too_long", "There should be at most {most} prompts", {"most": MOST_PROMPTS}
            )
        if kinds == {str}:
            return prompt
        if _are_token_ids(prompt):
            return [prompt]
        if kinds == {list} and all(_are_token_ids(tokens) for tokens in prompt):
            return prompt
    raise PydanticCustomError(
        "prompt_type",
        "Input should be a string, a list of strings, a list of token ids or a list of such lists",
    )


def _are_token_ids(tokens: list[Any]) -> bool:
    return set(map(type, tokens)) <= {int} and (not tokens or min(tokens) >= 0)


class CompletionRequest(OpenAISampling):
    """The body of `POST /v1/completions`."""

    neutral: ClassVar = {"suffix": ("",)}

    prompt: Annotated[Any, BeforeValidator(_prompts, json_schema_input_type=Prompts)]
    """Afterwards a list of texts or lists of token ids: `prompts`."""
    max_tokens: Annotated[int, Field(ge=1)] = 16
    echo: bool = False
    best_of: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if self.best_of is not None and self.best_of != self.n:
            raise broken_rule("best_of", "'best_of' other than 'n' is not supported; leave it out.")
        if self.echo and self.logprobs is not None:
            raise broken_rule(
                "echo", "'echo' together with 'logprobs' is not supported; leave one of them out."
            )
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts: texts or token ids."""
        prompts: list[str | list[int]] = self.prompt
        return prompts

    def sampling_params(self) -> SamplingParams:
        """What the engine is asked for."""
        return self.params(self.max_tokens, self.n, self.logprobs)


class CompletionFormat:
    """Writes text completions; a chunk of a stream has the same shape as the whole.

    Args:
        request: the request.
        vocabulary: knows the bytes of tokens, for log-probabilities.
        echoes: the text to repeat at the head of each choice, or nothing.
    """

    def __init__(self, request: CompletionRequest, vocabulary: Vocabulary, echoes: list[str]) -> None:
        self._request = request
        self._echoes = echoes
        self._head: dict[str, Any] = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": FINGERPRINT,
        }
        choices = len(request.prompts) * request.n
        self._logprobs = [CompletionLogprobs(vocabulary) for _ in range(choices)]
        self._stream_head = orjson.dumps(self._head)[:-1]
        self._usage = b',"usage":null' if request.include_usage else b""

    def _event(self, choice: int, text: str, logprobs: bytes, finish: str | None) -> bytes:
        return b"".join(
            (
                b"data: ",
                self._stream_head,
                b',"choices":[{"index":%d,"text":' % choice,
                orjson.dumps(text),
                b',"logprobs":',
                logprobs,
                b',"finish_reason":',
                b"null" if finish is None else orjson.dumps(finish),
                b"}]",
                self._usage,
                b"}\n\n",
            )
        )

    def opening(self) -> bytes:
        """The prompts, if they are to be repeated."""
        return b"".join(self._event(choice, text, b"null", None) for choice, text in enumerate(self._echoes))

    def events(self, choice: int, output: Output) -> bytes:
        """A chunk with the new text, if there is any, or the reason of the end."""
        if not (output.text or output.logprobs or output.finish_reason):
            return b""
        logprobs = b"null"
        if output.logprobs is not None:
            logprobs = orjson.dumps(self._logprobs[choice].write(output.logprobs))
        return self._event(choice, output.text, logprobs, output.finish_reason)

    def closing(self, usage: Usage) -> bytes:
        """The usage, if asked for, and the end mark."""
        counted = b""
        if self._request.include_usage:
            counted = event(
                self._stream_head + b',"choices":[],"usage":' + orjson.dumps(usage.to_json()) + b"}"
            )
        return counted + event(b"[DONE]")

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The completion in one piece."""
        written = [
            {
                "index": index,
                "text": (self._echoes[index] if self._echoes else "") + "".join(choice.text),
                "logprobs": None
                if self._request.logprobs is None
                else self._logprobs[index].write(choice.logprobs),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ]
        return orjson.dumps(self._head | {"choices": written, "usage": usage.to_json()})
