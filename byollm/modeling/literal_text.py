"""Keeps special tokens that a user spells out apart from those that a chat template writes."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

OPEN, CLOSE = "\ufdd0", "\ufdd1"  # noncharacters, which no text should contain (Unicode, section 23.7)


class LiteralText:
    """Marks special tokens inside messages before a template is applied, and finds the marks after.

    Args:
        special_tokens: the spellings to guard
    """

    def __init__(self, special_tokens: Sequence[str]) -> None:
        longest_first = sorted(filter(None, special_tokens), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._marked = re.compile(f"{OPEN}(.*?){CLOSE}|[{OPEN}{CLOSE}]", re.DOTALL)

    def mark(self, value: Any) -> Any:
        """Return `value` (a text, or lists and dicts of texts) with each special token between marks."""
        if isinstance(value, str):
            value = value.replace(OPEN, "").replace(CLOSE, "")
            return self._special.sub(rf"{OPEN}\g<0>{CLOSE}", value)
        if isinstance(value, dict):
            return {key: self.mark(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.mark(inner) for inner in value]
        return value

    def split(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """Cut a rendered text into pieces without marks: (piece, whether it is to be taken literally)."""
        for number, piece in enumerate(self._marked.split(rendered)):
            if piece:
                yield piece, number % 2 == 1
