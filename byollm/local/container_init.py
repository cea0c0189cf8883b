"""A container's first process: holds it on a leash, keeps its log within bounds, sweeps up after it.

Run by its path with nothing but the standard library, so that it starts in a moment. Standard input is the
leash: when it closes, because the container is to be killed or because the front process died, everything
that the container started is killed. The first line of standard output is the process id of the container;
the exit status is the container's, as a shell writes it (128 + the signal that ended it).
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

LOG_BYTES = 16 * 2**20
NOT_FOUND = 127
PR_SET_PDEATHSIG = 1


class BoundedLog:
    """A file that, once full, becomes `<name>.1` and begins anew. A full disk loses lines, not the container.

    Args:
        path: the file; its folder must exist.
        limit: bytes at which it is full.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path, self._limit = path, limit

    def write(self, data: bytes) -> None:
        """Append; what cannot be written is dropped."""
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size + len(data) > self._limit:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            with self._path.open("ab") as file:
                file.write(data)


def run(argv: list[str], log: BoundedLog) -> int:
    """Run the container to its end, or to that of standard input."""
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # safe: there is no other thread yet
        )
    except OSError as error:
        log.write(f"cannot run {argv[0]}: {error.strerror}\n".encode())
        return NOT_FOUND
    signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    print(child.pid, flush=True)  # noqa: T201 - it is what the front process reads
    threading.Thread(target=_hold, args=(child.pid,), daemon=True).start()
    assert child.stdout is not None
    writer = threading.Thread(target=_copy, args=(child.stdout.fileno(), log), daemon=True)
    writer.start()
    status = child.wait()
    _kill_group(child.pid)
    writer.join(1)
    return status if status >= 0 else 128 - status


def _hold(group: int) -> None:
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a buffer's lock would be held when the interpreter ends
    _kill_group(group)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _copy(output: int, log: BoundedLog) -> None:
    while data := os.read(output, 2**16):
        log.write(data)


def _die_with_parent() -> None:
    if sys.platform == "linux":  # elsewhere the leash alone has to do
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Run what the argument describes: `argv`, `log`, `scratch` (removed at the end), `after` (a command)."""
    given = json.loads(sys.argv[1])
    status = run(given["argv"], BoundedLog(Path(given["log"])))
    if given["after"]:
        subprocess.run(given["after"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    os.chdir("/")
    shutil.rmtree(given["scratch"], ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
