"""The last resort against a process that no longer moves."""

import faulthandler


def end_process_after(seconds: float) -> None:
    """End the process with status 1 in so many seconds, unless it ends itself or this is called again before.

    A native thread does it, without the interpreter lock: code that never gives that back stops the event
    loop too, and nothing written in Python could act any more. First it writes where every thread stands to
    standard error, under the line `Timeout (...)!`.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
