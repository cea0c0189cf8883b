from pathlib import Path

import pytest

from byollm.kernels.gpu.tuning import (
    TuningError,
    asking,
    bucket,
    configuration,
    key,
    read_table,
    table_path,
    using,
    write_table,
)


def default(rows: int, width: int) -> dict[str, int]:
    return {"BLOCK": min(rows, width)}


def test_rows_are_rounded_up_to_a_power_of_two() -> None:
    assert [bucket(rows) for rows in (0, 1, 2, 3, 4, 5, 64, 65)] == [1, 1, 2, 4, 4, 8, 64, 128]


def test_default_is_asked_for_the_bucket_and_a_table_goes_before_it() -> None:
    assert configuration("norm", default, 5, 192) == {"BLOCK": 8}
    with using({key("norm", 8, 192): {"BLOCK": 32}, key("norm", 8, 200): {"BLOCK": 1}}):
        assert configuration("norm", default, 5, 192) == {"BLOCK": 32}
        assert configuration("norm", default, 9, 192) == {"BLOCK": 16}
        with using({key("norm", 16, 192): {"BLOCK": 2}}):
            assert configuration("norm", default, 8, 192) == {"BLOCK": 32}
            assert configuration("norm", default, 9, 192) == {"BLOCK": 2}
    assert configuration("norm", default, 5, 192) == {"BLOCK": 8}


def test_what_is_asked_for_can_be_noted() -> None:
    with using({key("norm", 8, 192): {"BLOCK": 32}}), asking() as asked:
        configuration("norm", default, 5, 192)
        configuration("norm", default, 3, 192)
    configuration("norm", default, 1, 192)
    assert asked == {"norm/8x192": {"BLOCK": 32}, "norm/4x192": {"BLOCK": 4}}


def test_table_is_read_as_it_was_written_and_only_for_its_gpu(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.json"
    table = {key("norm", 8, 192): {"BLOCK": 32, "num_warps": 4}}
    write_table(path, "NVIDIA A10G", {})
    write_table(path, "NVIDIA A10G", table)
    assert read_table(path, "NVIDIA A10G") == table
    assert [file.name for file in path.parent.iterdir()] == ["table.json"]
    with pytest.raises(
        TuningError, match="measured on NVIDIA A10G, and this is NVIDIA L4: run `byollm tune`"
    ):
        read_table(path, "NVIDIA L4")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"gpu": "x"}', '{"gpu": "x", "configurations": {"a": {"B": 0}}}']
)
def test_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(TuningError, match="holds no kernel configurations"):
        read_table(path, "x")


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match=r"missing\.json: No such file"):
        read_table(tmp_path / "missing.json", "x")
    (tmp_path / "file").touch()
    with pytest.raises(TuningError, match="cannot write the kernel configurations"):
        write_table(tmp_path / "file" / "table.json", "x", {})


def test_every_gpu_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert table_path("NVIDIA A10G") == tmp_path / "byollm" / "tuning" / "nvidia-a10g.json"
    assert table_path("../../etc") == tmp_path / "byollm" / "tuning" / "etc.json"
