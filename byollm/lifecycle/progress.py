"""How far a step has come, and the waiting between steps."""

import math
import re
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


ANOTHER = re.compile(
    r'in-progress|already exist|Could not find (model|endpoint configuration|endpoint|inference component) "'
)
"""What SageMaker says of things that another makes, changes or takes away. Not, for one: that there is no
image, or `Could not find model data at`: those stay as they are."""

LONGEST_PAUSE_S = 15.0
"""Between two looks at what takes minutes."""

LOOK_EVERY_S = 1.0
"""Between two looks at what may be there at once."""


class Waiting(Exception):  # noqa: N818 - it is no error: the rest of a step has to wait
    """Raised inside a step by what is still on its way; carries what that is."""


@contextmanager
def patient(what: str) -> Iterator[None]:
    """Wait where SageMaker refuses to make or change `what` because another is at it.

    The next step looks again, and makes what is missing.
    """
    try:
        yield
    except ClientError as error:
        message = error.response["Error"]["Message"]
        if ANOTHER.search(message):
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


def hasten(
    step: Callable[[], Progress],
    *,
    patience_s: float,
    until: float,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Take steps as long as the last change is fresh, and return the last one taken.

    For who is asked again later: what is there within seconds is not waited for until then, and nothing is
    spent on what takes minutes.

    Args:
        step: such as `Reconciler.remove`.
        patience_s: how long a change is fresh.
        until: when to end in any case, on `time.monotonic()`.
        tell: is told of each step.
    """
    fresh_until = -math.inf
    while True:
        progress = step()
        tell(progress)
        if progress.changes:
            fresh_until = time.monotonic() + patience_s
        if progress.done or time.monotonic() + LOOK_EVERY_S > min(until, fresh_until):
            return progress
        time.sleep(LOOK_EVERY_S)
