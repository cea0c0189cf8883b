"""Sources opened as streams, honest and hostile."""

import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from byollm.data.errors import DataError
from byollm.data.files import Member, Skipped, find, members

Write = Callable[[str, str | bytes], Path]
LIMIT = 2**24


def read(path: Path, pattern: str = "*", limit: int = LIMIT) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for member in members(path, pattern, limit, lambda count: None):
        found[member.name] = member.stream.read() if isinstance(member, Member) else member.reason
    return found


def tar(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)],
    ids=["plain", "gz", "xz"],
)
def test_files_and_tars_are_read_through_each_compression(
    write: Write, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    assert read(write("a.txt" + suffix, pack(b"hello"))) == {"a.txt" + suffix: b"hello"}
    archive = write("b.tar" + suffix, pack(tar({"x/one.txt": b"1", "x/two.jsonl": b"{}"})))
    name = archive.name
    assert read(archive) == {f"{name}:x/one.txt": b"1", f"{name}:x/two.jsonl": b"{}"}
    assert read(archive, "*/one.*") == {f"{name}:x/one.txt": b"1"}


def test_short_names_of_packed_tars_and_packed_members_are_understood(write: Write) -> None:
    inner = {"a.txt.xz": lzma.compress(b"one"), "b.txt.gz": gzip.compress(b"two")}
    assert list(read(write("c.tgz", gzip.compress(tar(inner)))).values()) == [b"one", b"two"]
    assert list(read(write("c.txz", lzma.compress(tar(inner)))).values()) == [b"one", b"two"]


def test_xz_of_several_streams_with_padding_is_read_to_the_end(write: Write) -> None:
    packed = lzma.compress(b"one ") + b"\0" * 8 + lzma.compress(b"") + lzma.compress(b"two")
    assert read(write("a.txt.xz", packed)) == {"a.txt.xz": b"one two"}


def test_links_devices_and_unknown_files_are_named_and_never_followed(write: Write, tmp_path: Path) -> None:
    secret = write("secret.txt", "secret")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind in (
            ("link.txt", tarfile.SYMTYPE),
            ("hard.txt", tarfile.LNKTYPE),
            ("p.txt", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        for name in ("../../escape.txt", "/absolute.txt", "LICENSE"):
            info = tarfile.TarInfo(name)
            info.size = 2
            archive.addfile(info, io.BytesIO(b"ok"))
    before = set(tmp_path.rglob("*"))
    found = read(write("evil.tar", file.getvalue()))
    assert {name: found[f"evil.tar:{name}"] for name in ("link.txt", "hard.txt", "p.txt")} == dict.fromkeys(
        ("link.txt", "hard.txt", "p.txt"), "not a regular file (a link, a device or a sparse file)"
    )
    assert found["evil.tar:../../escape.txt"] == b"ok"  # a label only: nothing is written
    assert found["evil.tar:LICENSE"] == "not a text or table by its name"
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "evil.tar"}


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_a_bomb_is_refused_once_it_passes_the_limit(write: Write, pack: Callable[[bytes], bytes]) -> None:
    suffix = "gz" if pack is gzip.compress else "xz"
    path = write(f"bomb.txt.{suffix}", pack(bytes(2**25)))
    with pytest.raises(DataError, match="max_unpacked_bytes"):
        read(path)


def test_a_header_that_asks_for_gigabytes_is_refused(write: Write) -> None:
    packed = bytearray(lzma.compress(b"hello"))
    header = packed[12 : 12 + 4 * (packed[12] + 1)]  # of the first block
    header[4] = 40  # the dictionary: 4 GiB
    header[-4:] = zlib.crc32(header[:-4]).to_bytes(4, "little")
    packed[12 : 12 + len(header)] = header
    path = write("wide.txt.xz", bytes(packed))
    with pytest.raises(DataError, match="Memory usage limit"):
        read(path)
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 2**40
    with pytest.raises(DataError, match="header of"):
        read(write("wide.tar", info.tobuf(tarfile.GNU_FORMAT)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.txt.xz", lzma.compress(b"hello " * 999)[:-30]),
        ("cut.txt.gz", gzip.compress(b"hello " * 999)[:-9]),
        ("empty.txt.xz", b""),
        ("false.txt.xz", b"this is not xz"),
        ("false.txt.gz", b"this is not gzip"),
        ("false.tar", b"this is not tar" * 99),
        ("cut_header.tar", tar({"a.txt": b"a" * 600, "b.txt": b"b"})[: 512 + 1024 + 300]),
        ("cut_content.tar", tar({"a.txt": b"a" * 600, "b.txt": b"b"})[: 512 + 200]),
        ("no_end.tar", tar({"a.txt": b"a" * 512})[:1024]),
        ("garbled_header.tar", tar({"a.txt": b"a" * 512})[:1024] + b"x" * 2048),
    ],
)
def test_damage_is_an_error_and_never_taken_for_the_end(write: Write, name: str, content: bytes) -> None:
    with pytest.raises(DataError, match=r"damaged or not the format") as caught:
        read(write(name, content))
    assert name in str(caught.value)


def test_an_unknown_format_and_a_pattern_without_match_are_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"cannot tell the format .* \.jsonl"):
        read(write("a.parquet", b"PAR1"))
    with pytest.raises(DataError, match=r"no file in the archive matches 'c\*'"):
        read(write("a.tar", tar({"b.txt": b"b"})), "c*")


def test_a_missing_file_names_the_setting_and_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.sources: no file a\.txt") as caught:
        find(Path("a.txt"), tmp_path, "data.sources")
    assert str(tmp_path / "a.txt") in str(caught.value)
    assert "BYOLLM__DATA__DIRECTORY" in str(caught.value)


def test_files_are_looked_up_in_the_data_directory_then_here(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, here = write("data/a.txt", "1"), write("here/a.txt", "2")
    only_here = write("here/b.txt", "3")
    monkeypatch.chdir(tmp_path / "here")
    assert find(Path("a.txt"), tmp_path / "data", "x") == data
    assert find(Path("b.txt"), tmp_path / "data", "x").resolve() == only_here
    assert find(here, tmp_path / "data", "x") == here


def test_progress_counts_every_byte_of_the_file(write: Write) -> None:
    path, counts = write("a.txt.xz", lzma.compress(b"hello" * 10_000)), list[int]()
    for member in members(path, "*", LIMIT, counts.append):
        assert not isinstance(member, Skipped)
        member.stream.read()
    assert sum(counts) == path.stat().st_size
