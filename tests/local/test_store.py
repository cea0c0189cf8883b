"""A store keeps what it was given, whatever happens to its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from byollm.local.store import Store


def test_what_was_written_outlives_a_kill(tmp_path: Path) -> None:
    writer = (
        "import sys, time; from pathlib import Path; from byollm.local.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "store.put('endpoint', 'a', {'weight': 1}); store.put('endpoint', 'a', {'weight': 2})\n"
        "print('written', flush=True); time.sleep(60)"
    )
    path = tmp_path / "service.sqlite"
    process = subprocess.Popen([sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert Store(path).get("endpoint", "a") == {"weight": 2}


def test_documents_are_told_apart_by_kind_and_listed_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "service.sqlite")
    store.put("model", "b", {"n": 2})
    store.put("model", "a", {"n": 1})
    store.put("endpoint", "a", {"n": 3})
    assert list(store.list("model")) == [{"n": 1}, {"n": 2}]
    assert store.delete("model", "a")
    assert not store.delete("model", "a")
    assert store.get("model", "a") is None
    assert store.get("endpoint", "a") == {"n": 3}


def test_changing_what_was_read_changes_nothing_stored(tmp_path: Path) -> None:
    store = Store(tmp_path / "service.sqlite")
    store.put("model", "a", {"tags": []})
    read = store.get("model", "a")
    assert read is not None
    read["tags"].append("x")
    assert store.get("model", "a") == {"tags": []}
