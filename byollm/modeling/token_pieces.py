"""The bytes that each token stands for, read from a tokenizer's decoder.

Two kinds of decoder are in use by decoder-only models. Byte-level BPE (GPT-2, Qwen, Llama 3) writes each byte
as one visible character. The descendants of SentencePiece (Llama 2, Mistral) write a space as U+2581 and a
character outside the vocabulary as one token <0xNN> a byte.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from byollm.modeling.errors import TokenizerError

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _visible_bytes() -> dict[str, int]:
    """Return GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes follow from U+0100 on."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(itself)]
    return {chr(byte): byte for byte in itself} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


VISIBLE_BYTES = _visible_bytes()


@dataclass(frozen=True)
class PieceRules:
    """How a token's text becomes bytes."""

    byte_level: bool = False
    space: str | None = None
    """The character that stands for a space."""
    byte_tokens: bool = False
    """Tokens <0xNN> stand for one byte each."""
    strip_spaces: int = 0
    """At most so many spaces at the very beginning of a text are dropped."""
    first_drops_space: bool = False
    """In the very first token of a text, `space` is dropped instead of turned into a space."""

    def piece(self, token: str) -> bytes:
        """Return the bytes of one token that is not the first of its text."""
        if self.byte_level:
            if all(character in VISIBLE_BYTES for character in token):
                return bytes(VISIBLE_BYTES[character] for character in token)
            return token.encode()  # an added token in plain text
        if self.byte_tokens and (matched := BYTE_TOKEN.fullmatch(token)):
            return bytes([int(matched[1], 16)])
        return (token if self.space is None else token.replace(self.space, " ")).encode()

    def first_piece(self, token: str) -> bytes:
        """Return the bytes of the very first token of a text, before `strip_spaces`."""
        if self.first_drops_space and self.space is not None:
            return self.piece(token.replace(self.space, ""))
        return self.piece(token)


def piece_rules(decoder: dict[str, Any] | None) -> PieceRules:
    """Read the rules from the `decoder` entry of a tokenizer.json.

    Raises:
        TokenizerError: the decoder is of a kind that decoder-only models do not use.
    """
    rules = PieceRules()
    for step in _steps(decoder):
        match step:
            case {"type": "ByteLevel"}:
                rules = replace(rules, byte_level=True)
            case {"type": "Replace", "pattern": {"String": space}, "content": " "}:
                rules = replace(rules, space=space)
            case {"type": "ByteFallback"}:
                rules = replace(rules, byte_tokens=True)
            case {"type": "Fuse"}:
                pass
            case {"type": "Strip", "content": " ", "start": start, "stop": 0}:
                rules = replace(rules, strip_spaces=start)
            case {"type": "Metaspace", "replacement": space}:
                drops = step.get("prepend_scheme", "always") != "never"
                rules = replace(rules, space=space, first_drops_space=drops)
            case _:
                raise TokenizerError(
                    f"its decoder {step.get('type')!r} is not supported; expected byte-level BPE "
                    "(ByteLevel) or SentencePiece (Replace, ByteFallback, Fuse, Strip, Metaspace)"
                )
    return rules


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        raise TokenizerError("it has no decoder; expected byte-level BPE (ByteLevel) or SentencePiece")
    if decoder.get("type") == "Sequence":
        return [step for inner in decoder["decoders"] for step in _steps(inner)]
    return [decoder]
