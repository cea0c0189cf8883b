"""OpenAI's two ways of writing log-probabilities."""

import codecs
from typing import Any, Protocol

from byollm.engine import TokenLogprobs

LEAST_LOGPROB = -9999.0  # how OpenAI writes what JSON cannot, minus infinity


class Vocabulary(Protocol):
    """What tokens stand for."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token; they may be a part of a character."""

    def is_special(self, token_id: int) -> bool:
        """Whether it is a control token, which is no part of the text."""


def chat_logprobs(entries: list[TokenLogprobs], vocabulary: Vocabulary) -> dict[str, Any]:
    """The `logprobs` of a chat choice: one entry a token."""
    content = []
    for entry in entries:
        top = [_chat_entry(token_id, logprob, vocabulary) for token_id, logprob in entry.top]
        content.append(_chat_entry(entry.token_id, entry.logprob, vocabulary) | {"top_logprobs": top})
    return {"content": content, "refusal": None}


def _chat_entry(token_id: int, logprob: float, vocabulary: Vocabulary) -> dict[str, Any]:
    data = vocabulary.token_bytes(token_id)
    return {
        "token": data.decode(errors="replace"),
        "logprob": max(logprob, LEAST_LOGPROB),
        "bytes": list(data),
    }


class CompletionLogprobs:
    """Writes the `logprobs` of one completion choice: lists with one entry a token.

    Args:
        vocabulary: knows the bytes of tokens.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, entries: list[TokenLogprobs]) -> dict[str, Any]:
        """The object for the next tokens."""
        offsets = []
        for entry in entries:
            offsets.append(self._place(entry.token_id, shown=not self._vocabulary.is_special(entry.token_id)))
        return {
            "text_offset": offsets,
            "token_logprobs": [max(entry.logprob, LEAST_LOGPROB) for entry in entries],
            "tokens": [self._name(entry.token_id) for entry in entries],
            "top_logprobs": [self._alternatives(entry) for entry in entries],
        }

    def write_prompt(self, text: str, tokens: list[int], entries: list[TokenLogprobs]) -> dict[str, Any]:
        """The object for a prompt that is repeated before the answer.

        Args:
            text: the prompt as it is repeated; its control tokens are part of it.
            tokens: its tokens.
            entries: one for each of them but the first, which comes after nothing.
        """
        offsets = []
        for number, token in enumerate(tokens):
            # A control token at the head that the text does not show is the tokenizer's own.
            added = number == 0 and not text.startswith(self._name(token))
            offsets.append(self._place(token, not (added and self._vocabulary.is_special(token))))
        self._decoder.reset()
        self._offset = len(text)
        return {
            "text_offset": offsets,
            "token_logprobs": [None, *(max(entry.logprob, LEAST_LOGPROB) for entry in entries)],
            "tokens": [self._name(token) for token in tokens],
            "top_logprobs": [None, *(self._alternatives(entry) for entry in entries)],
        }

    def _place(self, token_id: int, shown: bool) -> int:
        """Return where the text of the next token begins."""
        data = self._vocabulary.token_bytes(token_id)
        offset = self._offset + self._breaks_off(data)
        if shown:
            self._offset += len(self._decoder.decode(data))
        return offset

    def _breaks_off(self, data: bytes) -> bool:
        """Whether `data` leaves the character begun before it broken: U+FFFD then stands in its place."""
        begun = self._decoder.getstate()[0]
        if not begun:
            return False
        probe = codecs.getincrementaldecoder("utf-8")("replace")
        text = probe.decode(begun + data[:1])
        return text.startswith("\ufffd") and (len(text) > 1 or bool(probe.getstate()[0]))

    def _alternatives(self, entry: TokenLogprobs) -> dict[str, float]:
        chosen = (entry.token_id, entry.logprob)
        both = [*entry.top, *([] if chosen[0] in (token_id for token_id, _ in entry.top) else [chosen])]
        return {self._name(token_id): max(logprob, LEAST_LOGPROB) for token_id, logprob in both}

    def _name(self, token_id: int) -> str:
        """The token's text, or its bytes written out when they are no whole characters, as OpenAI does."""
        data = self._vocabulary.token_bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
