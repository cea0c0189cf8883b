"""Text of an answer as its tokens come, with stop strings found and held back."""

from typing import Protocol


class Detokenizer(Protocol):
    """Turns tokens into text one at a time, never half a character."""

    def push(self, token_id: int) -> str:
        """Return the text that this token completes."""

    def flush(self) -> str:
        """Return what is left."""


class StopScanner:
    """Lets text through until a stop string is complete; what may become one is held back.

    Text is read character by character, so the outcome does not depend on how it is cut into pieces: the stop
    string that is complete first wins, and of those complete at the same character the longest.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Take more text; return the text that may be shown, and the stop string if one is now complete."""
        if not self._stops:
            return text, None
        text = self._held + text
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            _, start, stop = min(found)
            self._held = ""
            return text[:start], stop
        keep = next(
            (
                size
                for size in range(min(self._longest - 1, len(text)), 0, -1)
                if any(stop.startswith(text[-size:]) for stop in self._stops)
            ),
            0,
        )
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def flush(self) -> str:
        """Return the text held back; it did not become a stop string."""
        held, self._held = self._held, ""
        return held


class TextStream:
    """Detokeniser and stop scanner of one sequence; without a detokeniser there is no text.

    Args:
        detokenizer: makes text of tokens, or None.
        stops: the stop strings to look for.
    """

    def __init__(self, detokenizer: Detokenizer | None, stops: tuple[str, ...] = ()) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._scanner = StopScanner(stops)

    def push(self, token_id: int, stoppable: bool = True) -> tuple[str, str | None]:
        """Add a token; return the text that may be shown, and the stop string if one is now complete.

        The text of a token that is not `stoppable` is not searched for stop strings.
        """
        if self._detokenizer is None:
            return "", None
        text = self._detokenizer.push(token_id)
        return self._scanner.push(text) if stoppable and self._stops else (text, None)

    def flush(self) -> str:
        """End the text; return what is left of it."""
        if self._detokenizer is None:
            return ""
        text, stop = self._scanner.push(self._detokenizer.flush())
        return text if stop is not None else text + self._scanner.flush()
