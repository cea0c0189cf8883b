"""OpenAI's text completions: the request, and the answer in its two forms."""

import time
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import orjson
from pydantic import Field, model_validator

from byollm.engine import Output, SamplingParams, TokenLogprobs
from byollm.engine.grammar import Grammar
from byollm.server.answers import Choice, Tally, Usage, closing_events
from byollm.server.fingerprint import FINGERPRINT
from byollm.server.logprobs import CompletionLogprobs, Vocabulary
from byollm.server.parameters import broken_rule
from byollm.server.structured import ConstrainedSampling
from byollm.server.text_inputs import TextInputs


class CompletionRequest(ConstrainedSampling):
    """The body of `POST /v1/completions`."""

    neutral: ClassVar = {"suffix": ("",)}

    prompt: TextInputs
    max_tokens: Annotated[int, Field(ge=0)] = 16
    echo: bool = False
    best_of: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        if self.best_of is not None and self.best_of != self.n:
            raise broken_rule("best_of", "'best_of' other than 'n' is not supported; leave it out.")
        if self.min_tokens > self.max_tokens:
            raise broken_rule("min_tokens", "'min_tokens' is larger than 'max_tokens'.")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts: texts or token ids."""
        prompts: list[str | list[int]] = self.prompt
        return prompts

    def sampling_params(self, grammar: Grammar | None) -> SamplingParams:
        """What the engine is asked for."""
        return self.params(max(self.max_tokens, 1), self.n, self.logprobs, grammar)


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt that is repeated before its answers.

    Attributes:
        text: the prompt.
        tokens: its tokens.
        logprobs: of each token but the first, if they were asked for.
    """

    text: str
    tokens: list[int]
    logprobs: list[TokenLogprobs] | None


class CompletionFormat:
    """Writes text completions; a chunk of a stream has the same shape as the whole.

    Args:
        request: the request.
        vocabulary: knows the bytes of tokens, for log-probabilities.
        echoes: the prompts, if they are to be repeated; each at the head of its `n` choices.
    """

    def __init__(self, request: CompletionRequest, vocabulary: Vocabulary, echoes: list[Echo]) -> None:
        self._request = request
        self._echoes = [echo for echo in echoes for _ in range(request.n)]
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
        self._tally = Tally(request.n) if request.continuous_usage else None

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
        return b"".join(
            self._event(choice, echo.text, orjson.dumps(self._echoed_logprobs(choice, echo)), None)
            for choice, echo in enumerate(self._echoes)
        )

    def _echoed_logprobs(self, choice: int, echo: Echo) -> dict[str, Any] | None:
        if echo.logprobs is None:
            return None
        return self._logprobs[choice].write_prompt(echo.text, echo.tokens, echo.logprobs)

    def events(self, choice: int, output: Output) -> bytes:
        """A chunk with the new text, if there is any, or the reason of the end."""
        if self._tally is not None:
            self._tally.note(choice, output)
            self._usage = b',"usage":' + orjson.dumps(self._tally.usage.to_json())
        if not (output.text or output.logprobs or output.finish_reason):
            return b""
        logprobs = b"null"
        if output.logprobs is not None:
            logprobs = orjson.dumps(self._logprobs[choice].write(output.logprobs))
        return self._event(choice, output.text, logprobs, output.finish_reason)

    def closing(self, usage: Usage) -> bytes:
        """The usage, if asked for, and the end mark."""
        return closing_events(self._stream_head, usage if self._request.include_usage else None)

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The completion in one piece."""
        written = [self._choice(index, choice) for index, choice in enumerate(choices)]
        return orjson.dumps(self._head | {"choices": written, "usage": usage.to_json()})

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        text, logprobs = "".join(choice.text), None
        echoed = None
        if self._echoes:
            echo = self._echoes[index]
            text = echo.text + text
            echoed = self._echoed_logprobs(index, echo)
        if self._request.logprobs is not None:
            logprobs = self._logprobs[index].write(choice.logprobs)
            if echoed is not None:
                logprobs = {name: echoed[name] + logprobs[name] for name in logprobs}
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": choice.finish_reason}
