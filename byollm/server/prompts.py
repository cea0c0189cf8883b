"""Prompts become token ids: off the event loop when long, refused early when far too long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from byollm.engine.errors import AdmissionError
from byollm.server.messages import Message
from byollm.server.model import Model
from byollm.server.tool_prompt import spell_out_tools
from byollm.server.tools import Tool
from byollm.settings.errors import ByollmError
from byollm.web.errors import ApiError

if TYPE_CHECKING:  # brings torch, and the socket is to listen before that is loaded
    from byollm.modeling import Tokenizer

LONG = 4096  # characters; a longer text is tokenised in a thread
DOUBTFUL = 8  # characters a token of context; a longer text is first looked at in part


async def encode(model: Model, text: str, param: str = "prompt") -> list[int]:
    """Tokenise a text.

    Raises:
        ApiError: the text is certain to be longer than the model's context.
    """
    return await _run(partial(_encode, model.tokenizer, text, model.max_context, param), len(text))


async def encode_prompt(model: Model, prompt: str | list[int]) -> list[int]:
    """Tokenise a prompt that is to be continued; an empty one is the beginning of a text.

    Raises:
        ApiError: the prompt is too long, or empty where the model has no token that begins a text.
    """
    tokens = prompt if isinstance(prompt, list) else await encode(model, prompt)
    if tokens:
        return tokens
    if model.tokenizer.bos_id is None:
        message = "The prompt is empty, and this model has no token that begins a text. Send some text."
        raise ApiError(400, message, param="prompt", code="invalid_value")
    return [model.tokenizer.bos_id]


async def encode_chat(model: Model, messages: list[Message], tools: list[Tool]) -> list[int]:
    """Write a conversation in the model's own format, up to where the answer begins, and tokenise it.

    A chat template that knows nothing of tools is told of them in words.

    Raises:
        ApiError: the conversation is certain to be longer than the model's context, or the model has no chat
            template, or it refuses the conversation.
    """
    if not model.tokenizer.has_chat_template:
        message = "This model has no chat template. Use /v1/completions, or a model tuned for chat."
        raise ApiError(400, message, param="messages", code="no_chat_template")
    written = [message.to_template() for message in messages]
    offered = [tool.model_dump(exclude_unset=True) for tool in tools]
    if not model.tokenizer.knows_tools:
        written, offered = spell_out_tools(written, offered), []
    text = json.dumps([written, offered], ensure_ascii=False)
    work = partial(_encode_chat, model.tokenizer, text, written, offered, model.max_context)
    return await _run(work, len(text))


async def _run(work: Callable[[], list[int]], size: int) -> list[int]:
    return await asyncio.to_thread(work) if size > LONG else work()


def _encode(tokenizer: Tokenizer, text: str, max_context: int, param: str) -> list[int]:
    refuse_hopeless(tokenizer, text, max_context, param)
    return tokenizer.encode(text, special=True)


def _encode_chat(
    tokenizer: Tokenizer,
    text: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]],
    max_context: int,
) -> list[int]:
    refuse_hopeless(tokenizer, text, max_context, "messages")
    try:
        return tokenizer.apply_chat_template(messages, tools=tools or None)
    except ByollmError as error:
        raise ApiError(400, str(error), param="messages", code="invalid_value") from None


def refuse_hopeless(tokenizer: Tokenizer, text: str, max_context: int, param: str) -> None:
    """Refuse a text that is far too long at a cost that does not grow with its length.

    Ever longer beginnings are tokenised until one has twice the tokens that the context holds; cutting a text
    changes the tokens around the cut only.
    """
    size = DOUBTFUL * max_context
    while size < len(text):
        if len(tokenizer.encode(text[:size])) > 2 * max_context:
            raise too_long(max_context, f"more than {2 * max_context}", None, param)
        size *= 4


def check_fits(prompt_tokens: int, max_tokens: int | None, max_context: int, param: str) -> None:
    """Refuse a prompt that leaves no room for its answer; None asks for at least one token.

    Raises:
        ApiError: prompt and answer together exceed the model's context.
    """
    if prompt_tokens + (1 if max_tokens is None else max_tokens) > max_context:
        raise too_long(max_context, str(prompt_tokens), max_tokens, param)


def too_long(max_context: int, prompt_tokens: str, max_tokens: int | None, param: str) -> ApiError:
    """The error for what does not fit the model's context."""
    wanted = f"the {param} came to {prompt_tokens} tokens"
    if max_tokens is None:
        wanted += ", with no room left for an answer"
    elif max_tokens > 0:
        wanted += f" and {max_tokens} more were asked for"
    return ApiError(
        400,
        f"This model's maximum context length is {max_context} tokens. However, {wanted}. "
        f"Shorten the {param}{' or ask for fewer tokens' if max_tokens else ''}.",
        param=param,
        code="context_length_exceeded",
    )


def check_readable(model: Model, tokens: Sequence[int], param: str) -> None:
    """Refuse what the model cannot read.

    Raises:
        ApiError: there are no tokens, too many, or some outside the vocabulary.
    """
    try:
        model.info.limits.check_readable(tokens)
    except AdmissionError as error:
        message = f"Invalid value for '{param}': {str(error).removeprefix('prompt: ')}."
        raise ApiError(400, message, param=param, code="invalid_value") from None
