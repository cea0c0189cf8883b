"""The first pass: choose the validation documents and the tokenizer's sample by hash, in bounded memory."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from byollm.data.corpus import Kept
from byollm.data.errors import DataError
from byollm.settings.data import DataSettings


@dataclass(frozen=True)
class Choice:
    """`boundary`: documents with a draw below it are for validation. `sample`: texts of the train split."""

    boundary: int
    sample: list[str]


def choose(stream: Iterable[Kept], settings: DataSettings) -> Choice:
    """Read the corpus once and choose.

    The sample is the documents of smallest priority that fit the budget: a uniform draw that depends on
    nothing but the documents and the seed.

    Raises:
        DataError: fewer than two documents are left.
    """
    boundary = int(settings.validation_fraction * 2**64)
    smallest: list[int] = []  # negated draws: the validation documents at least
    sample: list[tuple[int, str, int, int]] = []  # (-priority, text, bytes, draw)
    total, count = 0, 0
    for kept in stream:
        count += 1
        known = kept.identity
        if len(smallest) < settings.validation_minimum:
            heapq.heappush(smallest, -known.draw)
        else:
            heapq.heappushpop(smallest, -known.draw)
        if known.draw < boundary:
            continue
        heapq.heappush(sample, (-known.priority, kept.text, kept.bytes, known.draw))
        total += kept.bytes
        while total > settings.tokenizer_sample_bytes and len(sample) > 1:
            total -= heapq.heappop(sample)[2]
    if count < 2:
        raise DataError(
            f"data.sources: {count} documents are left after the filters; at least 2 are needed, one to "
            "train on and one to validate with. rejected.jsonl in the output directory tells what was set "
            "aside and why."
        )
    wanted = min(settings.validation_minimum, count // 2)
    boundary = max(boundary, -sorted(smallest, reverse=True)[wanted - 1] + 1)
    train = [text for _, text, _, draw in sorted(sample, reverse=True) if draw >= boundary]
    return Choice(boundary, train)
