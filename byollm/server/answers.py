"""What every generating route answers with: choices gathered as they grow, and their cost in tokens."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from byollm.engine import Output, TokenLogprobs
from byollm.web.streams import event


@dataclass(slots=True)
class Choice:
    """One answer, gathered from its increments."""

    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: str | None = None
    completion_tokens: int = 0

    def add(self, output: Output) -> None:
        """Take in an increment."""
        self.text.append(output.text)
        if output.logprobs is not None:
            self.logprobs += output.logprobs
        self.finish_reason = output.finish_reason
        self.completion_tokens = output.completion_tokens


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written. A prompt counts once, however many answers it gets.

    Attributes:
        prompt_tokens: of all prompts.
        completion_tokens: of all answers.
        cached_tokens: those of the prompts that were not computed, since earlier requests had been.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def to_json(self) -> dict[str, Any]:
        """OpenAI's `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Tally:
    """Counts what a request costs, increment by increment.

    Args:
        n: answers to each prompt.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._prompts: dict[int, int] = {}
        self._cached: dict[int, int] = {}
        self._answers: dict[int, int] = {}

    def note(self, choice: int, output: Output) -> None:
        """Take in an increment of a choice."""
        prompt = choice // self._n
        self._prompts[prompt] = output.prompt_tokens
        # Of several answers to one prompt, the first computes it and the others find it in the cache.
        self._cached[prompt] = min(self._cached.get(prompt, output.prompt_tokens), output.cached_tokens)
        self._answers[choice] = output.completion_tokens

    @property
    def usage(self) -> Usage:
        """The cost of all so far."""
        return Usage(sum(self._prompts.values()), sum(self._answers.values()), sum(self._cached.values()))


class Format(Protocol):
    """How a route writes its answer, whole or as a stream of server-sent events."""

    def opening(self) -> bytes:
        """The events before the first text."""

    def events(self, choice: int, output: Output) -> bytes:
        """The events for an increment of a choice; empty when it has nothing to show."""

    def closing(self, usage: Usage) -> bytes:
        """The events after the last text."""

    def whole(self, choices: list[Choice], usage: Usage) -> bytes:
        """The answer in one piece."""


def closing_events(head: bytes, usage: Usage | None) -> bytes:
    """The last events of OpenAI's streams: the usage where it was asked for, and the end mark.

    Args:
        head: what every event of the stream begins with, a JSON object without its closing brace.
        usage: None where it was not asked for.
    """
    if usage is None:
        return event(b"[DONE]")
    counted = orjson.dumps(usage.to_json())
    return event(head + b',"choices":[],"usage":' + counted + b"}") + event(b"[DONE]")
