"""Training processes that die at a chosen call to the file system: `killed.py RUNS DATA NAME...`.

Each NAME of `MOMENTS` is a process of its own, forked once torch is there, whose run is RUNS/NAME. With
`alive` as the one NAME, the process itself trains, and does not die.
"""

import fnmatch
import os
import signal
import sys
from pathlib import Path
from typing import Any

from byollm.training.pretrain import pretrain
from tests.training.support import Recorder, recipe

MOMENTS = {
    "tensors written, nothing promised": ("fsync", "*/.step-00000005.new/state.json", "before"),
    "complete, not yet in its place": ("fsync", "*/.step-00000005.new/DONE", "after"),
    "about to be in its place": ("rename", "*/.step-00000005.new", "before"),
    "in its place, an older one not yet removed": ("rename", "*/.step-00000005.new", "after"),
    "the very first just in its place": ("rename", "*/.step-00000000.new", "after"),
    "before the very first checkpoint": ("fsync", "*/log.jsonl", "before"),
}
"""A call, a path, and whether the process dies before or after the first such call on such a path."""


def watch(call: str, pattern: str, when: str) -> None:
    """Have this process die at that moment."""

    def watched(path: str, act: Any) -> Any:
        hit = fnmatch.fnmatch(path, pattern)
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        value = act()
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    fsync, rename = os.fsync, Path.rename
    if call == "fsync":
        os.fsync = lambda fd: watched(os.readlink(f"/proc/self/fd/{fd}"), lambda: fsync(fd))
    else:
        Path.rename = lambda self, to: watched(str(self), lambda: rename(self, to))  # type: ignore


def main(runs: str, data: str, *names: str) -> None:
    for name in names:
        child = os.fork() if name in MOMENTS else 0
        if not child:
            if name in MOMENTS:
                watch(*MOMENTS[name])
            pretrain(recipe(), Path(data), Path(runs, name), Recorder())
            sys.exit()
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(f"it was not killed: {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
