"""What answers say of the tokens that were found in the cache."""

from typing import Any

import httpx
import openai
import pytest
from openai.types import CompletionUsage

BLOCK = 16  # tokens that are kept and found together
MESSAGES: list[Any] = [{"role": "user", "content": "a dog sat in the rain and the cat ran after " * 5}]
OPTIONS: Any = {"include_usage": True, "continuous_usage_stats": True}


def cached(usage: CompletionUsage | None) -> int:
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens is not None
    return usage.prompt_tokens_details.cached_tokens


def most_cached(tokens: int) -> int:
    """All whole blocks, but for the last token, which is always computed."""
    return (tokens - 1) // BLOCK * BLOCK


def test_a_prompt_that_came_before_is_reported_as_cached(client: openai.OpenAI) -> None:
    def ask(**changes: Any) -> Any:
        asked = {"model": "tiny", "messages": MESSAGES, "max_tokens": 3, "n": 3}
        return client.chat.completions.create(**(asked | changes))

    first, second = ask().usage, ask().usage
    assert cached(first) == 0, "answers to one prompt share it, and it counts once"
    assert 0 < cached(second) == most_cached(second.prompt_tokens) < second.prompt_tokens
    told = [chunk.usage for chunk in ask(stream=True, stream_options=OPTIONS) if chunk.usage]
    assert {cached(usage) for usage in told} == {cached(second)}


def test_prompts_of_one_call_are_added_up(client: openai.OpenAI) -> None:
    one, other = [7, 9] * 24, [11, 5] * 20
    client.completions.create(model="tiny", prompt=one, max_tokens=1)
    for wanted in (32, 32 + 32):
        answer = client.completions.create(model="tiny", prompt=[one, other], max_tokens=2, n=2)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 48 + 40
        assert cached(answer.usage) == wanted


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_only_read_counts_and_is_not_cached(client: openai.OpenAI, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": [[6, 7], [5] * 40], "max_tokens": 0, "n": 2}
    if stream:
        chunks = client.completions.create(**asked, stream=True, stream_options=OPTIONS)
        usages = [chunk.usage for chunk in chunks]
        assert usages[-1] == usages[-2]
        usage = usages[-1]
    else:
        usage = client.completions.create(**asked).usage
    assert usage.prompt_tokens == 42
    assert (usage.completion_tokens, cached(usage)) == (0, 0)


def test_the_plain_route_tells_it_too(http: httpx.Client) -> None:
    asked = {"prompt": "the dog and the mat and the rain " * 4, "max_tokens": 1}
    first, second = (http.post("/generate", json=asked).json()["usage"] for _ in range(2))
    assert first["prompt_tokens_details"] == {"cached_tokens": 0}
    assert second["prompt_tokens_details"] == {"cached_tokens": most_cached(second["prompt_tokens"])}
