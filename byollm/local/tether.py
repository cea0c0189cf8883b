"""A child process that does not outlive its parent, however that one ends."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel send this process SIGTERM when `parent`, which started it, is gone.

    Elsewhere than on Linux it has no effect: a child is then left behind by a parent that was killed.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # gone before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)
