"""A training process that dies at a chosen call to the file system: `killed.py RUN DATA CALL PATTERN WHEN`.

CALL is `fsync` or `rename`; the first one on a path that matches PATTERN kills the process by SIGKILL,
before or after the call takes place as WHEN says. With `none` as CALL it never dies.
"""

import fnmatch
import os
import signal
import sys
from pathlib import Path
from typing import Any

from byollm.training.pretrain import pretrain
from tests.training.support import Recorder, recipe


def main(run: str, data: str, call: str, pattern: str, when: str) -> None:
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
    if call == "rename":
        Path.rename = lambda self, to: watched(str(self), lambda: rename(self, to))  # type: ignore
    pretrain(recipe(), Path(data), Path(run), Recorder())


if __name__ == "__main__":
    main(*sys.argv[1:])
