"""Guessing ahead: drafts of what a sequence goes on with, and whether they are worth their cost.

A forward pass over a few rows of one sequence costs little more than one over a single row, and computes the
logits after each of them. So tokens that are guessed right come nearly for nothing. The guess is looked up in
the sequence itself (prompt look-up decoding, Saxena, 2023): text that quotes, copies or repeats goes on as it
did the last time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from byollm.engine.request import UNREAD, Request

# In units of a step over a single row, as measured on a CPU with a small model; see bench/LOG.md.
DRAFT_COST = 0.1  # a sequence with several rows instead of one
ROW_COST = 0.2  # each further row
CAUTION = 1.5  # how many times its cost a draft must promise: sequences that run ahead leave the others alone

SCANNED = 16_384  # how many tokens back the last ones are looked for
DECAY = 0.9  # what a verified draft leaves of the weight of those before it
FADE = 0.99  # what a step without a draft leaves of it, so that a request that gave up tries again


@dataclass(slots=True)
class History:
    """The tokens of one sequence, to be searched, and how its drafts fared.

    Attributes:
        text: the tokens as characters, which searches ten times faster than a list.
        tried: guesses that were put to the test, those of older drafts counting less.
        right: those of them that came true.
    """

    text: str = ""
    tried: float = 0.0
    right: float = 0.0

    @property
    def rate(self) -> float:
        """How often a guess comes true; hopeful until more is known, or nobody would ever try."""
        return (self.right + 1.5) / (self.tried + 2)

    def find(self, tokens: Sequence[int], match: int, count: int) -> list[int]:
        """Return the `count` tokens that followed the last `match` tokens when they last stood there before.

        What would follow beyond the end repeats what was found. Without an earlier occurrence: nothing.
        """
        self.text += "".join(map(chr, tokens[len(self.text) :]))
        end = len(tokens)
        found = self.text.rfind(self.text[-match:], max(0, end - SCANNED), end - 1)
        if found < 0:
            return []
        start = found + match
        draft = list(tokens[start : start + count])
        while len(draft) < count:
            draft.append(draft[start - end])  # as many back as lie between the two occurrences
        return draft


class Drafter:
    """Proposes drafts for the sequences that decode, where they are likely to pay.

    Args:
        most: tokens of a draft; 0 for no drafts at all.
        match: how many last tokens must have occurred before.
    """

    def __init__(self, most: int, match: int) -> None:
        self._most = most
        self._match = match
        self.drafts = self.drafted = self.right = 0  # drafts verified, their tokens, those that came true

    def propose(self, running: Sequence[Request]) -> dict[Request, list[int]]:
        """Return drafts for the next step, for those sequences that get one.

        The draft of a sequence whose last token is unread begins with a guess of that token: it is no draft
        for the next step yet, but reason to read the token before that.
        """
        if draft_length(1.0, len(running), self._most) == 0:
            return {}  # too many run, however good the guesses
        drafts = {}
        for request in running:
            room = request.max_tokens - request.completion_tokens - 1  # the step itself yields a token
            known = request.tokens[:-1] if request.tokens[-1] == UNREAD else request.tokens
            if request.remaining != 1 or room < 1 or len(known) <= self._match:
                continue
            if request.history is None:
                request.history = History()
            history = request.history
            count = draft_length(history.rate, len(running), min(self._most, room))
            if count == 0:
                history.tried *= FADE
                history.right *= FADE
            elif draft := history.find(known, self._match, count):
                drafts[request] = draft
        return drafts

    def learn(self, request: Request, drafted: int, right: int) -> None:
        """Note that of `drafted` tokens the first `right` came true; those after a wrong one say nothing."""
        self.drafts += 1
        self.drafted += drafted
        self.right += right
        if (history := request.history) is not None:
            history.right = history.right * DECAY + right
            history.tried = history.tried * DECAY + min(right + 1, drafted)


def draft_length(rate: float, running: int, most: int) -> int:
    """Return the best length of a draft, 0 if none pays.

    The i-th guess comes true if all before it do: with probability rate^i. A token is worth what it costs
    without drafts at the present batch size, so the more sequences share a step, the surer a guess must be.

    Args:
        rate: probability that a guess comes true after those before it did.
        running: sequences that share the step.
        most: the longest draft allowed.
    """
    token = (1 + ROW_COST * (running - 1)) / max(running, 1)
    gain, chance, length = -CAUTION * DRAFT_COST, rate, 0
    while length < most and chance * token > CAUTION * ROW_COST:
        gain += chance * token - CAUTION * ROW_COST
        chance *= rate
        length += 1
    return length if gain > 0 else 0
