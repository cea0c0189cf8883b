"""How fast an answer came, as the person waiting for it sees it: network and queueing included."""

import time
from dataclasses import dataclass, field

from frontend.client import Piece


@dataclass
class Statistics:
    """Watches the pieces of one answer go by."""

    asked: float = field(default_factory=time.perf_counter)  # seconds, as everything here
    first: float | None = None
    last: float | None = None
    tokens: int = 0

    def watch(self, piece: Piece) -> None:
        """Take a piece into account at the moment it arrives."""
        if piece.text:
            self.last = time.perf_counter()
            self.first = self.first or self.last
            self.tokens += 1  # a piece is about a token, until the server gives its own count
        if piece.completion_tokens is not None:
            self.tokens = piece.completion_tokens

    @property
    def rate(self) -> float | None:
        """Tokens a second from the question to the last token; None if there is none.

        From the first token on would tell nothing: servers send several at once, short answers whole.
        """
        return None if self.last is None else self.tokens / (self.last - self.asked)

    def line(self) -> str:
        """Put it in words."""
        parts = [f"{self.tokens:,} token{'' if self.tokens == 1 else 's'}"]
        if self.rate is not None:
            parts.append(f"{self.rate:,.1f} tokens/s" if self.rate < 100 else f"{self.rate:,.0f} tokens/s")
        if self.first is not None:
            parts.append(f"first after {self.first - self.asked:.2f} s")
        return " · ".join(parts)
