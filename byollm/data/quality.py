"""What makes a document worth training on, and what makes two the same."""

import hashlib
import re
import zlib
from dataclasses import dataclass

from byollm.settings.data import DataSettings

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_PROBE = 2**16


@dataclass(frozen=True)
class Identity:
    """What tells texts apart; equal for equal texts.

    `draw` and `priority` are uniform in [0, 2**64) and independent: the first chooses the split, the second
    the tokenizer's sample.
    """

    key: bytes
    draw: int
    priority: int


def normal(text: str) -> str:
    """Return `text` without what makes copies of a document differ: case, and the amount of white space."""
    lines = (
        text.casefold().splitlines()
    )  # a line at a time: the words of a long text weigh ten times the text
    return " ".join(joined for line in lines if (joined := " ".join(line.split())))


def identity(text: str, seed: int) -> Identity:
    """Return the identity of `text` under `seed`."""
    digest = hashlib.blake2b(text.encode(), digest_size=32, key=seed.to_bytes(8, "big")).digest()
    return Identity(digest[:16], int.from_bytes(digest[16:24], "big"), int.from_bytes(digest[24:], "big"))


def fault(text: str, settings: DataSettings) -> str | None:
    """Return why `text` is not worth keeping, or None if it is."""
    length = len(text)
    if length < settings.min_characters:
        return "too short"
    controls = len(_CONTROL.findall(text))
    if controls > length / 1000 or "\0" in text:
        return "control characters"
    if text.count("\ufffd") > settings.max_replacement_fraction * length:
        return "replacement characters"
    probe = text[:_PROBE]  # a long document is judged by its beginning: enough, and it bounds the time
    letters, spaces = sum(map(str.isalpha, probe)), sum(map(str.isspace, probe))
    if letters < settings.min_letter_fraction * (len(probe) - spaces):
        return "too few letters"
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair out of a JSON escape
        return "not Unicode text (lone surrogate)"
    encoded = probe.encode()
    if len(encoded) > settings.max_compression * len(zlib.compress(encoded, 1)):
        return "too repetitive"
    return None
