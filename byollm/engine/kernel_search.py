"""Looks for the configurations in which the GPU kernels run fastest on this machine."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from byollm.kernels.gpu.tuning import Configuration, TuningError, asking, bucket, using

logger = logging.getLogger(__name__)

Call = Callable[[], Tensor]
Measure = Callable[[Call], float]
"""Repeats something and returns the seconds that it takes."""

BOUND = 0.02  # how far results may differ, as a share of the largest: sums run in another order
GAIN = 0.98  # what a configuration must take at most, in units of the best so far
IN_ONES = ("num_stages", "STAGES")  # numbers that are tried one up and down; others are doubled and halved


@dataclass(frozen=True)
class Found:
    """What was found for one kernel and shape.

    Attributes:
        place: where it goes in a table.
        config: the fastest configuration.
        before: seconds with the one that was in use.
        after: seconds with the fastest.
    """

    place: str
    config: Configuration
    before: float
    after: float


def search(call: Call, measure: Measure) -> Iterator[Found]:
    """Find the fastest configuration of every kernel that a call launches, one after the other.

    From the configuration in use, each number is halved and doubled for as long as the call gains by it. What
    does not run, or gives other results, is left out.

    Raises:
        TuningError: the call does not even run as it is.
    """
    with asking() as asked:
        expected = call()
    for place, config in asked.items():
        seconds = _seconds(place, config, call, expected, measure)
        if seconds is None:
            raise TuningError(f"the kernel {place} does not run here with {config}; its log says why")
        yield _climb(place, config, seconds, lambda c, p=place: _seconds(p, c, call, expected, measure))  # type: ignore[misc]


def _climb(
    place: str, config: Configuration, seconds: float, measured: Callable[[Configuration], float | None]
) -> Found:
    before, seen, gained = seconds, [config], True
    while gained:
        gained = False
        for candidate in _neighbours(config):
            if candidate not in seen:
                seen.append(candidate)
                taken = measured(candidate)
                if taken is not None and taken < GAIN * seconds:
                    config, seconds, gained = candidate, taken, True
                    break
    return Found(place, config, before, seconds)


def _neighbours(config: Configuration) -> Iterator[Configuration]:
    for name, value in config.items():
        for other in (value - 1, value + 1) if name in IN_ONES else (value // 2, value * 2):
            if other >= 1:
                yield config | {name: other}


def _seconds(
    place: str, config: Configuration, call: Call, expected: Tensor, measure: Measure
) -> float | None:
    """Return what a call takes with a configuration; None where that cannot be used."""
    with using({place: config}):
        try:
            far = (call() - expected).abs().max() > BOUND * expected.abs().max()
            return None if far else measure(call)
        except Exception as error:  # too much shared memory, tiles that the compiler refuses, ...
            logger.info("%s is not launched with %s: %s", place, config, error)
            return None


def rows_to_tune(most: int, prompt: int) -> list[int]:
    """Return the numbers of rows that steps have, by bucket: up to `most` sequences, or a prompt's tokens."""
    rows = [1 << power for power in range(bucket(most).bit_length())]
    return [*rows, *({bucket(prompt)} - set(rows))]
