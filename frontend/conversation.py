"""A conversation as the page keeps it: in the browser, in the value of the chat component, and nowhere else.

A message shown has one or two parts: what was said, and beneath an answer the page's own note about it
(statistics, or what went wrong). Only the first is ever sent to the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Message:
    """What one side said, with the page's note and, where the person has a choice to make, the choices."""

    role: Literal["user", "assistant"]
    text: str
    note: str = ""
    choices: tuple[str, ...] = ()


def read(value: Sequence[dict[str, Any]] | None) -> list[Message]:
    """Read the conversation out of the chat component's value."""
    conversation = []
    for message in value or ():
        if message["role"] in ("user", "assistant"):
            parts = [str(part["text"]) for part in message["content"] if part.get("type") == "text"]
            text, note = [*parts, "", ""][:2]
            conversation.append(Message(message["role"], text, note))
    return conversation


def show(conversation: Sequence[Message]) -> list[dict[str, Any]]:
    """Turn a conversation into the chat component's value."""
    # typed parts, because the component re-indents bare strings, which spoils code
    return [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part}
                for part in (message.text, *([message.note] if message.note else []))
            ],
            "options": [{"value": choice} for choice in message.choices],
        }
        for message in conversation
    ]


def turns(conversation: Sequence[Message]) -> list[list[Message]]:
    """Split before every question. A question that was never answered, other than the last, is left out."""
    pairs: list[list[Message]] = []
    for message in conversation:
        if message.role == "user":
            pairs.append([message])
        elif pairs and message.text:
            pairs[-1].append(message)
    return [pair for pair in pairs[:-1] if len(pair) > 1] + pairs[-1:]


def prompt(conversation: Sequence[Message], system: str, leave_out: int = 0) -> list[dict[str, str]]:
    """Write the conversation as the model is asked it, without its `leave_out` oldest turns."""
    opening = [{"role": "system", "content": system}] if system.strip() else []
    kept = turns(conversation)[leave_out:]
    return opening + [{"role": message.role, "content": message.text} for pair in kept for message in pair]
