"""What ministack remembers is on disk as a whole, and only what has changed is written again."""

import asyncio
from copy import deepcopy
from pathlib import Path

import pytest
from ministack import app as ministack
from ministack.core import persistence
from ministack.core.responses import AccountRegionScopedDict

from byollm.local.ministack.snapshots import Snapshots
from tests.local.disk import MakeDisk, make_disk

__all__ = ["make_disk"]


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> dict[str, AccountRegionScopedDict]:
    """What two services remember, to be changed."""
    services = {"one": AccountRegionScopedDict(), "two": AccountRegionScopedDict()}
    readers = {name: lambda part=part: deepcopy(part) for name, part in services.items()}
    monkeypatch.setattr(ministack, "_build_persistence_save_dict", lambda: readers)
    monkeypatch.setattr(persistence, "PERSIST_STATE", True)
    monkeypatch.setattr(persistence, "STATE_DIR", persistence.STATE_DIR)  # which is set while it is written
    return services


def save(snapshots: Snapshots) -> None:
    asyncio.run(snapshots._save())


def test_only_what_has_changed_is_written(state: dict[str, AccountRegionScopedDict], tmp_path: Path) -> None:
    snapshots, folder = Snapshots(tmp_path / "state"), tmp_path / "state"
    save(snapshots)
    files = {name: (folder / f"{name}.json").stat().st_ino for name in state}
    whole = folder.stat().st_ino
    save(snapshots)
    assert folder.stat().st_ino == whole
    state["two"]["key"] = "value"
    save(snapshots)
    assert (folder / "one.json").stat().st_ino == files["one"]
    assert (folder / "two.json").stat().st_ino != files["two"]
    assert "value" in (folder / "two.json").read_text()


def test_a_full_disk_leaves_the_last_one_whole(
    state: dict[str, AccountRegionScopedDict], make_disk: MakeDisk
) -> None:
    disk = make_disk(1)
    folder = disk.path / "state"
    snapshots = Snapshots(folder)
    state["one"]["key"] = "first"
    save(snapshots)
    disk.fill()
    state["one"]["key"] = "second" * 10_000
    save(snapshots)
    assert "first" in (folder / "one.json").read_text()
    assert [path.name for path in disk.path.iterdir() if path.is_dir()] == ["state"]
    disk.clear()
    save(snapshots)
    assert "second" in (folder / "one.json").read_text()
