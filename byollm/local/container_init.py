"""A container's first process: holds it on a leash, keeps its log within bounds, sweeps up after it.

Run by its path with nothing but the standard library, so that it starts in a moment. Standard input is the
leash: when it closes, because the container is to be killed or because the front process died, everything
that the container started is killed. The first line of standard output is the process id of the container, a
byte after it says that the log is longer; the exit status is the container's, as a shell writes it (128 +
the signal that ended it).
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
import time
from pathlib import Path

LOG_BYTES = 16 * 2**20
LINE_BYTES = 2**16  # a longer line becomes several
NOT_FOUND = 127
LAST_WORDS_S = 10.0  # to be written down in; nothing ends them where what left the container's group goes on
PR_SET_PDEATHSIG = 1


class BoundedLog:
    """Lines, each with the time it came at, in a file that, once full, becomes `<name>.1` and begins anew.

    A full disk loses lines, never half a line, and not the container.

    Args:
        path: the file; its folder must exist.
        limit: bytes at which it is full.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path, self._limit = path, limit
        self._begun = b""
        self._now = 0.0

    def write(self, data: bytes) -> bool:
        """Append the lines that `data` completes; tell whether there were any."""
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) >= LINE_BYTES:
            lines, self._begun = [*lines, self._begun], b""
        self._append(lines)
        return bool(lines)

    def close(self) -> None:
        """Append the line that was begun: nothing more will come."""
        self._append([self._begun] if self._begun else [])
        self._begun = b""

    def _append(self, lines: list[bytes]) -> None:
        self._now = max(self._now, time.time())  # a clock that is set back does not change their order
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self._now))
        prefix = f"{seconds}.{int(self._now % 1 * 1000):03}Z ".encode()
        cut = (line[begin : begin + LINE_BYTES] for line in lines for begin in _pieces(line))
        data = b"".join(prefix + line + b"\n" for line in cut)
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size + len(data) > self._limit:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            with self._path.open("ab", buffering=0) as file:
                end = file.tell()
                if file.write(data) != len(data):  # the disk is full
                    file.truncate(end)


def _pieces(line: bytes) -> range:
    return range(0, max(1, len(line)), LINE_BYTES)


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
    os.set_blocking(sys.stdout.fileno(), False)
    threading.Thread(target=_hold, args=(child.pid,), daemon=True).start()
    assert child.stdout is not None
    writer = threading.Thread(target=_copy, args=(child.stdout.fileno(), log), daemon=True)
    writer.start()
    status = child.wait()
    _kill_group(child.pid)
    writer.join(LAST_WORDS_S)
    return status if status >= 0 else 128 - status


def _hold(group: int) -> None:
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a buffer's lock would be held when the interpreter ends
    _kill_group(group)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _copy(output: int, log: BoundedLog) -> None:
    while data := os.read(output, 2**16):
        if log.write(data):
            with contextlib.suppress(OSError):  # nobody reads now: there is enough to be read already
                os.write(sys.stdout.fileno(), b"+")
    log.close()


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
