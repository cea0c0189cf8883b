"""Containers are processes with an environment, a log and an end of their own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from byollm.local.containers import Container, ContainerError, Containers, Mount
from byollm.local.log_lines import LogLines, Place
from byollm.local.logs import LogStream
from byollm.local.world import World

REPOSITORY = "byollm-dev/inference@sha256:1"
IMAGE = f"123456789012.dkr.ecr.ca-central-1.amazonaws.com/{REPOSITORY}"
LOG = LogStream("/aws/sagemaker/Endpoints/byollm-dev", "main/i-1", sent=False)


def world_with(directory: Path, script: str, *arguments: str) -> World:
    """A world whose one image is a Python script."""
    world = World(directory, 1, "ca-central-1")
    images = {REPOSITORY: [sys.executable, "-c", script, *arguments]}
    (directory / "images.json").write_text(json.dumps(images))
    return world


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def said(log: Path) -> str:
    return "".join(f"{line.text}\n" for line in LogLines(log, Place()).read())


async def logged(container: Container, text: str) -> str:
    await asyncio.to_thread(until, lambda: text in said(container.log))
    return said(container.log)


def test_a_container_has_its_own_environment_and_mounts_and_ends_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the host")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    script = (
        "import json, os, pathlib, sys\n"
        "model = pathlib.Path(os.environ['BYOLLM_OPT_ML'], 'model')\n"
        "print(json.dumps({'argv': sys.argv[1:], 'files': os.listdir(model), **os.environ}), flush=True)\n"
        "pathlib.Path('scratch').touch(); sys.exit(3)"
    )
    containers = Containers(world_with(tmp_path, script))

    async def scenario() -> Container:
        container = await containers.start(
            IMAGE,
            ["serve"],
            log=LOG,
            environment={"A": "1"},
            mounts=[Mount(tmp_path / "model", "/opt/ml/model")],
            port=4000,
        )
        assert await container.wait() == 3
        return container

    container = asyncio.run(scenario())
    assert not container.alive
    assert container.log == containers.log_file(LOG)
    seen = json.loads(said(container.log))
    assert seen["argv"] == ["serve"]
    assert seen["files"] == ["config.json"]
    assert (seen["A"], seen["SAGEMAKER_BIND_TO_PORT"]) == ("1", "4000")
    assert "AWS_SECRET_ACCESS_KEY" not in seen
    assert seen["HOME"] != os.environ.get("HOME")
    assert not list((tmp_path / "containers").iterdir()), "what a container wrote for itself is left"


def test_one_that_heeds_sigterm_ends_by_itself_and_one_that_does_not_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, sys, time\n"
        "heed = sys.argv[1] == 'heed'\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7) if heed else None)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(60)"
    )
    containers = Containers(world_with(tmp_path, script))

    async def scenario() -> None:
        for argument, grace, code in (("heed", 30, 7), ("ignore", 0.2, 128 + signal.SIGKILL)):
            log = LOG._replace(name=argument)
            container = await containers.start(IMAGE, [argument], log=log, environment={})
            await logged(container, "ready")
            assert container.alive
            assert await container.stop(grace) == code
            assert container.exit_code == code
            assert container.pid is not None
            assert not running(container.pid)

    asyncio.run(scenario())


FAMILY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True); time.sleep(600)"
)


def test_when_the_front_process_is_killed_nothing_of_its_containers_is_left(tmp_path: Path) -> None:
    world_with(tmp_path, FAMILY)
    front = (
        "import asyncio, sys; from pathlib import Path\n"
        "from byollm.local.containers import Containers; from byollm.local.world import World\n"
        "from byollm.local.logs import LogStream\n"
        "async def main():\n"
        "    containers = Containers(World(Path(sys.argv[1]), 1, 'ca-central-1'))\n"
        "    log = LogStream('/logs', 'c', sent=False)\n"
        f"    container = await containers.start('{IMAGE}', [], log=log, environment={{}})\n"
        "    print(container.pid, container.log, flush=True)\n"
        "    await container.wait()\n"
        "asyncio.run(main())"
    )
    process = subprocess.Popen([sys.executable, "-c", front, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid, _, log = process.stdout.readline().decode().partition(" ")
    path = Path(log.strip())
    until(lambda: said(path) != "")
    family = [int(pid), int(said(path))]
    assert all(map(running, family))
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: not any(map(running, family)))
    until(lambda: not list((tmp_path / "containers").iterdir()))


@pytest.mark.parametrize("which", ["the process", "its keeper"])
def test_when_one_process_of_a_container_is_killed_the_others_go_too(tmp_path: Path, which: str) -> None:
    containers = Containers(world_with(tmp_path, FAMILY))

    async def scenario() -> None:
        container = await containers.start(IMAGE, [], log=LOG, environment={})
        assert container.pid is not None
        grandchild = int(await logged(container, "\n"))
        keeper = int(Path(f"/proc/{container.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(container.pid if which == "the process" else keeper, signal.SIGKILL)
        assert await container.wait() == 128 + signal.SIGKILL
        await asyncio.to_thread(until, lambda: not running(grandchild) and not running(container.pid or 0))

    asyncio.run(scenario())


def test_what_cannot_be_run_ends_with_127_and_says_so_in_its_log(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text(json.dumps({REPOSITORY: ["no-such-program"]}))
    containers = Containers(World(tmp_path, 1, "ca-central-1"))

    async def scenario() -> Container:
        container = await containers.start(IMAGE, [], log=LOG, environment={})
        assert await container.wait() == 127
        return container

    assert "cannot run no-such-program" in asyncio.run(scenario()).log.read_text()


def test_an_image_that_nobody_knows_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    containers = Containers(world_with(tmp_path, ""))
    with pytest.raises(ContainerError, match=rf"no image other@sha256:2 .* Known: {REPOSITORY}"):
        asyncio.run(containers.start("other@sha256:2", [], log=LOG, environment={}))


def test_there_are_no_mounts_outside_opt_ml(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="under /opt/ml only"):
        Mount(tmp_path, "/opt/ml/../../etc")


def test_a_port_is_told_by_the_setting_of_the_image_and_opens_to_this_machine_only(tmp_path: Path) -> None:
    script = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
    world = world_with(tmp_path, script)
    entry = {"argv": [sys.executable, "-c", script], "port": "APP__PORT"}
    (tmp_path / "images.json").write_text(json.dumps({REPOSITORY: entry}))

    async def scenario() -> Container:
        container = await Containers(world).start(
            IMAGE, [], log=LOG, environment={"APP__HOST": "0.0.0.0"}, port=4000
        )
        await container.wait()
        return container

    container = asyncio.run(scenario())
    told = json.loads(said(container.log))
    assert (told["APP__PORT"], told["APP__HOST"]) == ("4000", "127.0.0.1")
    assert container.environment["APP__PORT"] == "4000"
    assert "SAGEMAKER_BIND_TO_PORT" not in told
