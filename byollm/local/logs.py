"""What containers write, on its way from their files to CloudWatch Logs."""

import contextlib
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from byollm.local.log_lines import Line, LogLines, Place
from byollm.local.world import World

log = logging.getLogger(__name__)

LINGER_S = 0.2  # so that what comes together goes together
AGAIN_S, AGAIN_AT_MOST_S = 1.0, 30.0  # after CloudWatch Logs did not take it, and did not again
KIND = "Log"


class LogStream(NamedTuple):
    """Where AWS writes what a container says.

    Args:
        group: the log group.
        name: of the stream.
        sent: whether it is written there at all, and not kept on this machine alone.
    """

    group: str
    name: str
    sent: bool = True


@dataclass
class _Followed:
    """A file that is followed; `made` once its stream was, with `writers` that may still add to it."""

    lines: LogLines
    stream: LogStream
    made: bool = False
    writers: int = 0


class Logs:
    """Sends what is added to files from a thread of its own, when it is told that there is more.

    The files are what is sent from and what lasts: nobody waits for CloudWatch, nothing is kept in memory,
    and how far each file was sent is remembered, so that a restart goes on from there.

    Args:
        world: whose CloudWatch Logs gets it.
    """

    def __init__(self, world: World) -> None:
        self._world, self._store = world, world.store("logs")
        self._news = threading.Condition()
        self._stirred: set[Path] = set()
        self._started = False
        self._followed = {
            world.directory / one["path"]: _Followed(
                LogLines(world.directory / one["path"], Place(*one["place"])),
                LogStream(*one["stream"]),
                one["made"],
            )
            for one in self._store.list(KIND)
        }
        for path in self._followed:
            self.stir(path)

    def follow(self, path: Path, stream: LogStream) -> None:
        """Send what one more container will add to `path` from now on."""
        with self._news:
            if path not in self._followed:
                self._followed[path] = _Followed(LogLines(path, Place.end_of(path)), stream)
                self._remember(self._followed[path])
            self._followed[path].writers += 1

    def stir(self, path: Path, *, ended: bool = False) -> None:
        """Take note that something was added, or that a container that wrote to it has `ended`."""
        with self._news:
            self._followed[path].writers -= ended
            self._stirred.add(path)
            self._news.notify()
            if not self._started:
                self._started = True
                threading.Thread(target=self._send, name="logs", daemon=True).start()

    def _send(self) -> None:
        pause = AGAIN_S
        while True:
            with self._news:
                self._news.wait_for(lambda: self._stirred)
            time.sleep(LINGER_S)
            with self._news:
                stirred, self._stirred = self._stirred, set()
            try:
                while stirred:
                    if followed := self._followed.get(stirred.pop()):  # or it was let go
                        self._send_some(followed)
                pause = AGAIN_S
            except (BotoCoreError, ClientError, OSError) as error:
                if pause == AGAIN_S:  # once for each time that it is gone
                    log.warning("what containers write waits, CloudWatch Logs does not take it: %s", error)
                time.sleep(pause)
                pause = min(2 * pause, AGAIN_AT_MOST_S)
            with self._news:
                self._stirred |= stirred

    def _send_some(self, followed: _Followed) -> None:
        """Send the next lines of one file, which is let go once it has ended and all of it was sent."""
        path, place, ended = followed.lines.path, followed.lines.place, not followed.writers
        lines = followed.lines.read()
        with self._news:
            if lines:
                self._stirred.add(path)  # there may be more; these, if they are not taken
            elif ended and not followed.writers:
                self._store.delete(KIND, self._name(path))
                del self._followed[path]
        if not lines:
            return
        try:
            self._put(followed, lines, ended)
        except BaseException:
            followed.lines.place = place
            raise
        self._remember(followed)

    def _put(self, followed: _Followed, lines: list[Line], ended: bool) -> None:
        """Write lines to their stream; it is made first, with its group where nobody has declared one."""
        client = self._world.client("logs")
        group, stream = {"logGroupName": followed.stream.group}, {"logStreamName": followed.stream.name}
        if not followed.made:
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_group(**group)
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_stream(**group, **stream)
            followed.made = True
        events = [{"timestamp": line.time, "message": line.text or " "} for line in lines]
        try:
            client.put_log_events(**group, **stream, logEvents=events)
        except client.exceptions.ResourceNotFoundException:
            if not ended:
                followed.made = False
                raise
            # A group that was removed does not come back for the last words of who wrote to it.

    def _remember(self, followed: _Followed) -> None:
        path = self._name(followed.lines.path)
        place, stream = followed.lines.place, followed.stream
        document = {"path": path, "place": place, "stream": stream, "made": followed.made}
        self._store.put(KIND, path, document)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._world.directory))
