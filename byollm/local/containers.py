"""Containers on this machine: plain processes, or podman's and Docker's where an image is one of theirs.

`images.json` in the world's directory says what an image is: `{"<repository>@<digest>": ["argv", …]}` is run
as a process, and so is `{"argv": […], "port": "NAME"}`, whose setting `NAME` says where it listens;
`{"image": "NAME", "port": …}` is an image that podman or Docker has, as is a string alone.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from byollm.local import container_init
from byollm.local.logs import Logs, LogStream
from byollm.local.world import World
from byollm.settings.errors import ByollmError

OPT_ML = PurePosixPath("/opt/ml")
GRACE_S = 30.0
ENGINES = ("podman", "docker")
# What a process cannot do without; everything else of this process's environment stays here.
KEPT = ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS")
SAGEMAKER_PORT = "SAGEMAKER_BIND_TO_PORT"


class ContainerError(ByollmError):
    """A container cannot be started."""


@dataclass(frozen=True)
class Mount:
    """A directory of this machine, as a container sees it.

    Args:
        source: the directory.
        target: where the container finds it: `/opt/ml` or a place below.
        read_only: whether the container is kept from writing; a plain process only by the files' permissions.
    """

    source: Path
    target: str
    read_only: bool = True

    def __post_init__(self) -> None:
        target = PurePosixPath(self.target)
        if not target.is_relative_to(OPT_ML) or ".." in target.parts:
            raise ContainerError(f"mount at {target}: containers have mounts under {OPT_ML} only")


class Container:
    """A running container, or one that has ended. `Containers.start` makes it.

    Args:
        process: its first process, see `container_init`.
        pid: of the process inside; None if it could not be run.
        stream: where AWS would write what it says.
        log: the file of it on this machine.
        port: where it listens, if it does.
        environment: what was said to it.
    """

    def __init__(
        self,
        stream: LogStream,
        process: asyncio.subprocess.Process,
        pid: int | None,
        log: Path,
        port: int | None,
        environment: Mapping[str, str],
    ) -> None:
        self.stream, self.pid, self.log, self.port, self.environment = stream, pid, log, port, environment
        self._process = process

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with (128 + n after signal n, 127 if it could not be run); None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Return the exit code once it has ended, by itself or not."""
        code = await self._process.wait()
        if code < 0:  # its first process was killed: the rest goes too
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid or self._process.pid, signal.SIGKILL)
            return 128 - code
        return code

    async def stop(self, grace_s: float = GRACE_S) -> int:
        """Ask it to end with SIGTERM, kill it after the grace, and return the exit code.

        The grace is in real seconds: what a process has to finish goes no faster by the world's clock.
        """
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(self.wait()), grace_s)
            self.kill()
        return await self.wait()

    def kill(self) -> None:
        """Kill it, and all that it started, at once."""
        assert self._process.stdin is not None
        self._process.stdin.close()


class Containers:
    """Starts containers; they end with this process, however that ends.

    Args:
        world: whose directory holds `images.json`, the logs and what containers write.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._logs = Logs(world)
        self._heard: set[asyncio.Task[None]] = set()

    async def start(
        self,
        image: str,
        arguments: Sequence[str],
        *,
        log: LogStream,
        environment: Mapping[str, str],
        mounts: Sequence[Mount] = (),
        port: int | None = None,
    ) -> Container:
        """Start a container; it runs when this returns, or has already ended.

        Args:
            image: as AWS names it, `<registry>/<repository>@<digest>`; the registry does not matter.
            arguments: in place of the image's command, such as `["serve"]`.
            log: where AWS would write what it says, no two that run at once to the same; it is called by the
                name of the stream, and the file is `log_file(log)`.
            environment: all that it is to have; of this process it gets the PATH and the language.
            port: where it is to listen on this machine, told to it by the variable of its image, or else as
                `SAGEMAKER_BIND_TO_PORT`.

        Raises:
            ContainerError: nobody knows the image, or no engine is there to run it.
        """
        known, variable = self._look_up(image)
        scratch = Path(tempfile.mkdtemp(prefix=f"{_plain(log.name)}-", dir=self._folder("containers")))
        given = dict(environment)
        if port is not None:
            given[variable] = str(port)
            host = variable.removesuffix("PORT") + "HOST"
            if host in given:  # a container listens for everybody; a process for this machine alone
                given[host] = "127.0.0.1"
        after: list[str] = []
        if isinstance(known, str):
            engine, label = _engine(), f"byollm-{scratch.name}"
            argv = [*_engine_command(engine, label, given, mounts), known, *arguments]
            after = [engine, "rm", "--force", label]
        else:
            argv = [*known, *arguments]
            given["BYOLLM_OPT_ML"] = str(_opt_ml(scratch, mounts))
            if Path(argv[0]).is_absolute():  # as in an image, its own programs come first
                programs = (str(Path(argv[0]).parent), os.environ.get("PATH", os.defpath))
                given.setdefault("PATH", os.pathsep.join(programs))
        file = self.log_file(log)
        file.parent.mkdir(parents=True, exist_ok=True)
        spec = {"argv": argv, "log": str(file), "scratch": str(scratch), "after": after}
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        if log.sent:
            self._logs.follow(file, log)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", container_init.__file__, json.dumps(spec)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=scratch,
            env={**kept, "HOME": str(scratch), "TMPDIR": str(scratch), **given},
            start_new_session=True,
        )
        assert process.stdout is not None
        pid = (await process.stdout.readline()).strip()
        if log.sent:
            hearing = asyncio.create_task(self._hear(process.stdout, file))
            self._heard.add(hearing)
            hearing.add_done_callback(self._heard.discard)
        return Container(log, process, int(pid) if pid else None, file, port, given)

    def knows(self, image: str) -> bool:
        """Whether there is such an image."""
        return _without_registry(image) in self._images()

    def log_file(self, log: LogStream) -> Path:
        """Where what a container says is on this machine."""
        return self._world.directory / "logs" / log.group.strip("/") / f"{_plain(log.name)}.log"

    async def _hear(self, said: asyncio.StreamReader, file: Path) -> None:
        """Have the log sent on whenever there is more of it, and the rest once the container has ended."""
        while await said.read(2**16):
            self._logs.stir(file)
        self._logs.stir(file, ended=True)

    def _look_up(self, image: str) -> tuple[list[str] | str, str]:
        """Return what an image is, and the variable by which it is told its port."""
        images, name = self._images(), _without_registry(image)
        if name not in images:
            raise ContainerError(
                f"there is no image {name} on this machine: `byollm up` makes them. "
                f"Known: {', '.join(sorted(images)) or 'none'}"
            )
        known = images[name]
        if isinstance(known, dict):
            return known.get("image") or known["argv"], known.get("port", SAGEMAKER_PORT)
        return known, SAGEMAKER_PORT

    def _images(self) -> dict[str, Any]:
        try:
            images: dict[str, Any] = json.loads((self._world.directory / "images.json").read_text())
        except FileNotFoundError:
            return {}
        return images

    def _folder(self, name: str) -> Path:
        folder = self._world.directory / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _without_registry(image: str) -> str:
    registry, _, rest = image.partition("/")
    return rest if rest and ("." in registry or ":" in registry) else image


def _opt_ml(scratch: Path, mounts: Sequence[Mount]) -> Path:
    """Lay out what the container would see under /opt/ml, and return where that is."""
    root = scratch / "opt-ml"
    root.mkdir()
    for mount in mounts:
        target = PurePosixPath(mount.target)
        if target == OPT_ML:
            return mount.source.absolute()
        place = root / target.relative_to(OPT_ML)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(mount.source.absolute(), target_is_directory=True)
    return root


def _engine() -> str:
    for engine in ENGINES:
        if shutil.which(engine):
            return engine
    raise ContainerError(f"the image is a container's, and neither {' nor '.join(ENGINES)} is installed")


def _engine_command(
    engine: str, label: str, environment: Mapping[str, str], mounts: Sequence[Mount]
) -> list[str]:
    # Variables are named here and read from the engine's own environment: a command line is public.
    named = [option for name in environment for option in ("--env", name)]
    volumes = [
        option
        for mount in mounts
        for option in (
            "--volume",
            f"{mount.source.absolute()}:{mount.target}{':ro' if mount.read_only else ''}",
        )
    ]
    # On the host's network the container reaches this AWS, which listens on the loopback address only.
    return [
        *(engine, "run", "--rm", "--name", label, "--network", "host", "--read-only", "--tmpfs", "/tmp"),  # noqa: S108
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", *named, *volumes),
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)
