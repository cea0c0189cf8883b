"""Text out of a stream of tokens, as soon as it is certain and never half a character."""

import codecs
from typing import Protocol


class TokenBytes(Protocol):
    """What the detokenizer asks of a tokenizer."""

    leading_spaces: int
    """How many spaces at the very beginning of a text are dropped."""
    texts: dict[int, str]
    """Texts of tokens that begin and end between characters: kept here by all who turn them into text."""

    def token_bytes(self, token_id: int, first: bool = False) -> bytes:
        """Return the bytes that a token stands for."""

    def is_special(self, token_id: int) -> bool:
        """Tell whether a token is a control token rather than text."""


class IncrementalDetokenizer:
    """Turns tokens into text one by one; the pushes and the final flush together are `Tokenizer.decode`.

    Bytes are held back until their character is complete, so each push costs the same however long the text
    grows. Bytes that can become no character are shown as U+FFFD, as in `decode`.

    Args:
        tokenizer: gives the bytes of each token
        skip_special: leave special tokens out
        continues: the text continues another one, so a space at its beginning is part of it
    """

    def __init__(self, tokenizer: TokenBytes, *, skip_special: bool = True, continues: bool = False) -> None:
        self._tokenizer = tokenizer
        self._texts = tokenizer.texts
        self._skip_special = skip_special
        self._first = not continues
        self._strip = 0 if continues else tokenizer.leading_spaces
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._between = False  # characters, and not at the beginning

    def push(self, token_id: int) -> str:
        """Take the next token and return the text that has become certain, perhaps none."""
        if self._between and (text := self._texts.get(token_id)) is not None:
            return text
        special = self._tokenizer.is_special(token_id)
        if special and self._skip_special:
            return ""
        piece = self._tokenizer.token_bytes(token_id, first=self._first)
        self._first = False
        text = self._stripped(self._utf8.decode(piece))
        between, self._between = self._between, not self._strip and not self._utf8.getstate()[0]
        if between and self._between and not special:
            self._texts[token_id] = text
        return text

    def flush(self) -> str:
        """End the text and return what was held back: a character cut short, as U+FFFD, or nothing."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        while self._strip and text:
            if text[0] != " ":
                self._strip = 0
            else:
                text = text[1:]
                self._strip -= 1
        return text
