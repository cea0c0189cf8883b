"""Which files of images go, and which stay."""

from pathlib import Path

from byollm.local.blobs import Blobs


def test_what_is_promised_while_images_are_looked_through_stays(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    for name in ("left", "had", "coming", "finished"):
        (tmp_path / name).touch()
    blobs.promise("gone", "sha256:left")
    blobs.promise("there", "sha256:finished")
    blobs.keep_promise("there", ["sha256:finished"])
    before = blobs.promised()
    blobs.promise("new", "sha256:coming")
    blobs.sweep(["sha256:had"], before)
    assert {path.name for path in tmp_path.iterdir()} == {"had", "coming"}
    assert blobs.promised() == {("new", "sha256:coming")}
