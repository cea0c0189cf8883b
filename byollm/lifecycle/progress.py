"""How far a step has come, and the waiting between steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore.exceptions import ClientError


@dataclass(frozen=True)
class Progress:
    """What one step did, and what the next one waits for."""

    done: bool
    waiting_for: str = ""
    changes: tuple[str, ...] = ()


LONGEST_PAUSE_S = 15.0
"""Between two looks at what takes minutes."""


class Waiting(Exception):  # noqa: N818 - it is no error: the rest of a step has to wait
    """Raised inside a step by what is still on its way; carries what that is."""


@contextmanager
def patient(what: str) -> Iterator[None]:
    """Wait where SageMaker refuses a change because `what` is being made or changed, perhaps by another."""
    try:
        yield
    except ClientError as error:
        message = error.response["Error"]["Message"]
        if "in-progress" in message or "already exist" in message:
            raise Waiting(f"{what}: {message}") from None
        raise


def settle(
    step: Callable[[], Progress],
    *,
    until: float,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Take steps until one is the last, or it is `until` on the monotonic clock; return the last taken.

    Args:
        step: such as `Reconciler.remove`.
        until: when to give up, on `time.monotonic()`.
        tell: is told of each step.
    """
    pause_s = 1.0
    while True:
        progress = step()
        tell(progress)
        if progress.done or time.monotonic() + pause_s > until:
            return progress
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
