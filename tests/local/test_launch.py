"""The emulated AWS in the background: found by who holds its directory, refused clearly, stopped."""

import fcntl
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from byollm.cli.main import app
from byollm.local.launch import LOCK, LocalError, Running, forget, launch, require_free
from byollm.settings import ByollmError
from tests.local.running import Platform, eventually
from tests.ports import free_port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def ask(*arguments: str) -> tuple[str, Exception | None]:
    result = CliRunner().invoke(app, arguments)
    error = result.exception
    return result.output, error if isinstance(error, ByollmError) else None


def test_what_runs_is_found_by_its_directory(platform: Platform) -> None:
    running = Running.find(platform.directory)
    assert running is not None
    assert (running.pid, running.port, running.factor) == (platform.process.pid, platform.port, 60)
    eventually(lambda: running.health()["ready"])


def test_what_a_killed_process_left_is_nothing(tmp_path: Path) -> None:
    holder = {"pid": 1, "port": 4566, "region": "ca-central-1", "factor": 1.0}
    (tmp_path / LOCK).write_text(json.dumps(holder))
    assert Running.find(tmp_path) is None
    assert Running.find(tmp_path / "missing") is None


def test_who_has_just_taken_a_directory_is_heard_out(tmp_path: Path) -> None:
    holder = {"pid": 1, "port": 4566, "region": "ca-central-1", "factor": 1.0}
    with (tmp_path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def say() -> None:
            lock.write(json.dumps(holder))
            lock.flush()

        saying = threading.Timer(0.2, say)
        saying.start()
        assert Running.find(tmp_path) == Running(tmp_path, **holder)  # type: ignore[arg-type]
        saying.join()


def test_a_taken_port_is_refused_before_anything_is_started(tmp_path: Path, taken: int) -> None:
    with pytest.raises(LocalError, match=f"port {taken} .* --port"):
        launch(tmp_path / "new", port=taken, region="ca-central-1", factor=1)
    assert not (tmp_path / "new").exists()


def test_a_directory_that_is_in_use_is_not_shared(platform: Platform, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="in use"):
        forget(platform.directory)
    _, error = ask("up", "--directory", str(platform.directory), "--port", str(platform.port + 1))
    assert f"runs on port {platform.port} already" in str(error)


def test_a_directory_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    require_free(port := free_port())
    with pytest.raises(LocalError, match="cannot be written to"):
        launch(tmp_path / "file", port=port, region="ca-central-1", factor=1)


def test_only_its_own_directory_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(LocalError, match="is not the directory"):
        forget(tmp_path)
    (tmp_path / LOCK).write_text("")
    forget(tmp_path)
    assert not tmp_path.exists()


def test_what_is_not_up_is_told(tmp_path: Path) -> None:
    _, error = ask("status", "--directory", str(tmp_path))
    assert "byollm up --env dev" in str(error)
    assert "is not up" in ask("down", "--directory", str(tmp_path))[0]


def test_a_log_that_is_not_there_names_those_that_are(platform: Platform) -> None:
    output, _ = ask("logs", "cloud", "--directory", str(platform.directory))
    assert "Ready" in output
    _, error = ask("logs", "nobody", "--directory", str(platform.directory))
    assert "there is cloud" in str(error)
