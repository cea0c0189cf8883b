"""Conversations in the shapes people keep them in, read into one: a list of role and content.

Known shapes of a row: `messages` (OpenAI), `conversations` (ShareGPT), `instances` (self-instruct),
`instruction` with `input`/`context` and `output`/`response` (Alpaca, Dolly), a pair such as `input` and
`output`, a text with `### Human:` and `### Assistant:` (or `Human:` and `Assistant:` lines), and a bare list
of messages.
"""

import re
from typing import Any

from byollm.data.errors import DataError

Message = dict[str, str]
Messages = list[Message]

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "claude": "assistant",
    "chatgpt": "assistant",
}
PAIRS = (
    ("input", "output"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
    ("human", "assistant"),
    ("user", "assistant"),
    ("query", "response"),
)
_NAMES = r"(system|human|user|assistant|claude)"
_TAGS = re.compile(rf"###\s*{_NAMES}\s*:[ \t]*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LINES = re.compile(rf"^{_NAMES}\s*:[ \t]*", re.IGNORECASE | re.MULTILINE)


class ShapeError(DataError):
    """A row is no conversation in a known shape: `reason` to count by, and the particulars."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


def conversations(value: Any) -> list[Messages]:
    """Return the conversations of one row, not yet validated; self-instruct's rows hold several.

    Raises:
        ShapeError: the row has no known shape.
    """
    if isinstance(value, str):
        return [tagged(value)]
    if isinstance(value, list):
        return [_turns(value)]
    if not isinstance(value, dict):
        raise ShapeError("unknown shape", f"a row is an object, a list or a text, not {type(value).__name__}")
    for key in ("messages", "conversations", "conversation"):
        if key in value:
            turns = _turns(value[key])
            opening = value.get("system")
            if isinstance(opening, str) and opening.strip() and turns and turns[0]["role"] != "system":
                turns.insert(0, {"role": "system", "content": opening})
            return [turns]
    if "instruction" in value:
        instances = value.get("instances", [value])
        if not isinstance(instances, list) or not all(isinstance(item, dict) for item in instances):
            raise ShapeError("unknown shape", "instances is not a list of objects")
        return [_instructed(value["instruction"], item) for item in instances]
    for asked, answered in PAIRS:
        if asked in value and answered in value:
            return [_exchange(value[asked], value[answered])]
    if isinstance(value.get("text"), str):
        return [tagged(value["text"])]
    raise ShapeError("unknown shape", f"fields: {', '.join(map(str, list(value)[:10])) or 'none'}")


def validated(messages: Messages, max_characters: int) -> Messages:
    """Return the conversation in canonical form: contents without white space around them, Unix line ends.

    Raises:
        ShapeError: a message is empty, the turns are out of order, it is too long, or not clean text.
    """
    canonical = [
        {"role": turn["role"], "content": turn["content"].replace("\r\n", "\n").replace("\r", "\n").strip()}
        for turn in messages
    ]
    if not canonical:
        raise ShapeError("no messages")
    turns = canonical[1:] if canonical[0]["role"] == "system" else canonical
    for number, turn in enumerate(canonical, start=1):
        if not turn["content"]:
            raise ShapeError("empty message", f"message {number} ({turn['role']})")
        if _CONTROL.search(turn["content"]):
            raise ShapeError("control characters", f"message {number} ({turn['role']})")
    for number, turn in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if turn["role"] != expected:
            raise ShapeError("roles do not take turns", f"{turn['role']} where {expected} was expected")
    if not turns or turns[-1]["role"] != "assistant":
        raise ShapeError("no answer at the end", "the last message must be the assistant's")
    length = sum(len(turn["content"]) for turn in canonical)
    if length > max_characters:
        detail = f"{length:,} characters, data.max_conversation_characters is {max_characters:,}"
        raise ShapeError("conversation too long", detail)
    try:
        "".join(turn["content"] for turn in canonical).encode()
    except UnicodeEncodeError:
        raise ShapeError("not Unicode text (lone surrogate)") from None
    return canonical


def tagged(text: str) -> Messages:
    """Read `### Human: ... ### Assistant: ...`, or the same without the signs at the start of lines."""
    pattern = _TAGS if _TAGS.search(text) else _LINES
    before, *rest = pattern.split(text)
    if not rest:
        raise ShapeError("unknown shape", "a text without `### Human:` and `### Assistant:`")
    if before.strip():
        raise ShapeError("text before the first tag", before.strip()[:80])
    return [
        {"role": ROLES[role.lower()], "content": content}
        for role, content in zip(rest[::2], rest[1::2], strict=True)
    ]


def _turns(value: Any) -> Messages:
    if not isinstance(value, list):
        raise ShapeError("unknown shape", f"the conversation is not a list but {type(value).__name__}")
    found = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, dict):
            raise ShapeError("unknown shape", f"message {number} is not an object")
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(role, str) or role.lower() not in ROLES:
            raise ShapeError(
                "unknown role", f"message {number}: {role!r}, expected one of {', '.join(ROLES)}"
            )
        found.append({"role": ROLES[role.lower()], "content": _text(content)})
    return found


def _instructed(instruction: Any, item: dict[str, Any]) -> Messages:
    given = _text(item.get("input", item.get("context")) or "").strip()
    answer = item.get("output", item.get("response"))
    if answer is None:
        raise ShapeError("unknown shape", "an instruction without output or response")
    asked = _text(instruction).strip()
    return _exchange(f"{asked}\n\n{given}" if asked and given else asked or given, answer)


def _exchange(asked: Any, answered: Any) -> Messages:
    return [
        {"role": "user", "content": _text(asked)},
        {"role": "assistant", "content": _text(answered)},
    ]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        parts = [part.get("text") for part in value if part.get("type") == "text"]
        if len(parts) == len(value) and all(isinstance(part, str) for part in parts):
            return "".join(map(str, parts))  # OpenAI's content parts, text only
    raise ShapeError("not text", f"a message's content is {type(value).__name__}, expected text")
