"""Prefixes of S3 become directories, whatever their objects are called."""

from pathlib import Path
from typing import Any

import pytest

from byollm.local.sagemaker.s3_files import Mirror, S3FilesError, address, download


class Bucket:
    """As much of an S3 client as is asked for; a bucket may hold names that clients would not send."""

    def __init__(self, *keys: str) -> None:
        self.objects = {key: key.encode() for key in keys}
        self.puts: list[str] = []

    def get_paginator(self, operation: str) -> Any:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> Any:
        yield {"Contents": [{"Key": key} for key in sorted(self.objects) if key.startswith(Prefix)]}

    def download_file(self, bucket: str, key: str, path: str) -> None:
        Path(path).write_bytes(self.objects[key])

    def upload_file(self, path: str, bucket: str, key: str, ExtraArgs: dict[str, str]) -> None:
        self.objects[key] = Path(path).read_bytes()
        self.puts.append(key)


@pytest.mark.parametrize(
    ("prefix", "key", "path"),
    [
        ("corpus/", "corpus/a/b.txt", "a/b.txt"),
        ("corpus", "corpus/a/b.txt", "a/b.txt"),
        ("corpus/a.txt", "corpus/a.txt", "a.txt"),
        ("corpus/a", "corpus/abc/d.txt", "abc/d.txt"),
        ("", "a.txt", "a.txt"),
    ],
)
def test_an_object_is_found_by_its_place_under_the_prefix(
    tmp_path: Path, prefix: str, key: str, path: str
) -> None:
    download(Bucket(key), f"s3://bucket/{prefix}", [key], tmp_path)
    assert (tmp_path / path).read_text() == key


@pytest.mark.parametrize("key", ["a/../../out", "a/../../../etc/passwd"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, key: str) -> None:
    place = tmp_path / "in"
    place.mkdir()
    with pytest.raises(S3FilesError, match="leads out of the directory"):
        download(Bucket(key), "s3://bucket/a/", [key], place)
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("second", ["a/b", "a/b/c"])
def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path, second: str) -> None:
    with pytest.raises(S3FilesError, match="is another object"):
        download(Bucket("a", second), "s3://bucket/", ["a", second], tmp_path)


@pytest.mark.parametrize("url", ["http://bucket/a", "s3:///a", "bucket/a"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(S3FilesError, match="is not of the form"):
        address(url)


def test_a_mirror_puts_what_has_changed_and_nothing_else(tmp_path: Path) -> None:
    bucket = Bucket("run/old")
    mirror = Mirror(bucket, tmp_path, "s3://bucket/run/")
    mirror.fetch()
    mirror.push()
    assert bucket.puts == []
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/new").write_text("1")
    (tmp_path / "old").write_text("changed")
    (tmp_path / "link").symlink_to("/etc/hostname")
    mirror.push()
    mirror.push()
    assert sorted(bucket.puts) == ["run/deep/new", "run/old"]
    (tmp_path / "old").unlink()
    mirror.push()
    assert bucket.objects["run/old"] == b"changed"
