"""Finds the calls in an answer as its text comes."""

import json
import re
import uuid
from typing import Literal, NamedTuple

from byollm.server.tools import CLOSE, OPEN

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')


class Piece(NamedTuple):
    """A piece of an answer.

    Attributes:
        kind: text, the beginning of a call, or more of its arguments.
        value: the text, the function's name, or the arguments' JSON.
    """

    kind: Literal["text", "call", "arguments"]
    value: str


class Call(NamedTuple):
    """A call, with arguments in JSON."""

    call_id: str
    name: str
    arguments: str


class CallParser:
    """Splits an answer into text and calls, without ever taking back what it gave.

    The grammar sees to it that a call once begun has the form `<tool_call>{"name": ..., "arguments": ...}`
    and the closing tag, unless the answer ends early. White space around calls is no part of the text.

    Args:
        calls_only: there is no text: what may be the beginning of a tag at the end is one.
    """

    def __init__(self, calls_only: bool = False) -> None:
        self._calls_only = calls_only
        self._state: Literal["text", "head", "arguments", "tail"] = "text"
        self._held = ""
        self._after_call = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.calls = 0

    def push(self, text: str) -> list[Piece]:
        """Take more of the answer; return what it completes."""
        pieces: list[Piece] = []
        self._held += text
        while self._held and getattr(self, f"_{self._state}")(pieces):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        """End the answer; return the text that was held back."""
        held, self._held = self._held, ""
        return [Piece("text", held)] if held and self._state == "text" and not self._calls_only else []

    @property
    def called(self) -> bool:
        """Whether there are calls, and the last one's arguments were not cut short."""
        return self.calls > 0 and self._state != "arguments"

    # Each takes what it can from what is held, and says whether there may be more to take.

    def _text(self, pieces: list[Piece]) -> bool:
        if self._after_call:
            self._held = self._held.lstrip()
        before, tag, after = self._held.partition(OPEN)
        if tag:
            self._state, self._held = "head", after
            before = before.rstrip()
        else:
            # White space stays back too: it is dropped if a call follows.
            kept = before[: len(before) - _begun(before)].rstrip()
            before, self._held = kept, before[len(kept) :]
        if before:
            self._after_call = False
            pieces.append(Piece("text", before))
        return bool(tag)

    def _head(self, pieces: list[Piece]) -> bool:
        found = HEAD.match(self._held)
        if found is None or found.end() == len(self._held):
            return False
        self._state, self._held = "arguments", self._held[found.end() :]
        self.calls += 1
        pieces.append(Piece("call", json.loads(found[1])))
        return True

    def _arguments(self, pieces: list[Piece]) -> bool:
        end = self._end_of_arguments()
        if end is None:
            pieces.append(Piece("arguments", self._held))
            self._held = ""
            return False
        pieces.append(Piece("arguments", self._held[:end]))
        self._state, self._held = "tail", self._held[end:]
        return True

    def _end_of_arguments(self) -> int | None:
        """Where the object that began in an earlier piece, or begins in this, is closed."""
        for at, character in enumerate(self._held):
            if self._escaped:
                self._escaped = False
            elif self._in_string:
                self._escaped = character == "\\"
                self._in_string = character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return None

    def _tail(self, pieces: list[Piece]) -> bool:
        _, tag, after = self._held.partition(CLOSE)
        if tag:
            self._state, self._held, self._after_call = "text", after, True
        return bool(tag)


def _begun(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a call's tag."""
    return next((size for size in range(len(OPEN) - 1, 0, -1) if text.endswith(OPEN[:size])), 0)


def split_calls(text: str, parser: CallParser) -> tuple[str, list[Call]]:
    """Split a whole answer, by a parser that is new, into its text and its calls."""
    pieces = [*parser.push(text), *parser.flush()]
    calls: list[Call] = []
    for piece in pieces:
        if piece.kind == "call":
            calls.append(Call(new_call_id(), piece.value, ""))
        elif piece.kind == "arguments":
            calls[-1] = calls[-1]._replace(arguments=calls[-1].arguments + piece.value)
    return "".join(piece.value for piece in pieces if piece.kind == "text"), calls


def new_call_id() -> str:
    """A name for a call, by which its result refers to it."""
    return f"call_{uuid.uuid4().hex[:24]}"
