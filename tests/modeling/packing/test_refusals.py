"""What cannot be packed or written is refused with the reason, the place and what to do."""

import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from byollm.modeling import CheckpointError
from byollm.modeling.packing import pack as packing
from tests.modeling.packing.support import contents, pack, write_model

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "float", layers=2)


@pytest.fixture
def model(intact: Path, tmp_path: Path) -> Path:
    shutil.copytree(intact, tmp_path / "float")
    return tmp_path / "float"


def refusal(model: Path, out: Path | None = None) -> str:
    """What is said when the model cannot be packed; nothing is left behind at its destination."""
    out = out or model.parent / "out"
    before = out.exists()
    with pytest.raises(CheckpointError) as refused:
        pack(model, out)
    assert out.exists() == before
    return str(refused.value)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shard(model: Path, number: int = 2) -> Path:
    return sorted(model.glob("model-*.safetensors"))[number]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'; supported: qwen3"),
        ({"quantization_config": {"quant_method": "byollm", "scheme": "int4"}}, "is packed already, as int4"),
        ({"quantization_config": {"quant_method": "gptq"}}, "by the method 'gptq'"),
        ({"num_hidden_layers": 3}, "missing (11): model.layers.2.input_layernorm.weight"),
    ],
)
def test_models_that_are_not_for_it(model: Path, config: dict[str, Any], reason: str) -> None:
    edit(model / CONFIG, lambda said: said.update(config))
    assert reason in refusal(model)


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff\xfe"])
def test_configs_that_are_none(model: Path, content: bytes | None) -> None:
    (model / CONFIG).unlink()
    if content is not None:
        (model / CONFIG).write_bytes(content)
    assert "config.json" in refusal(model)


def test_a_directory_without_weights_says_what_is_missing(model: Path) -> None:
    for path in model.glob("model*"):
        path.unlink()
    assert "neither model.safetensors nor model.safetensors.index.json" in refusal(model)
    (model / "pytorch_model.bin").touch()
    assert "save_pretrained" in refusal(model)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[:-7], "the file at"),
        (lambda data: data[:20], "its header should have"),
        (lambda data: data[:5], "its header should have"),
        (lambda data: b"", "its header should have"),
        (lambda data: b"\xff" * 8 + data[8:], "its header should have"),
        (lambda data: data[:8] + b"?" + data[9:], "Expecting value"),
        (lambda data: data + b"x", "the file at"),
        (lambda data: data.replace(b'"BF16"', b'"F32" ', 1), "shape and type do not make"),
        (lambda data: data.replace(b"data_offsets", b"data_0ffsets", 1), "data_offsets"),
    ],
)
def test_a_damaged_shard_is_named_with_its_hash(
    model: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    path = shard(model)
    path.write_bytes(damage(path.read_bytes()))
    said = refusal(model)
    assert reason in said
    assert path.name in said
    assert sha256(path) in said


def test_a_shard_that_is_not_what_sha256sums_says_is_named_with_both_hashes(model: Path) -> None:
    subprocess.run("sha256sum * > SHA256SUMS", shell=True, cwd=model, check=True)
    path = shard(model)
    before = sha256(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")  # one weight is another: nothing else tells
    said = refusal(model)
    assert path.name in said
    assert before in said
    assert sha256(path) in said


def test_a_blob_of_the_hub_that_is_not_what_its_name_says(model: Path) -> None:
    path = shard(model)
    blob = model.parent / ("0" * 64)
    path.rename(blob)
    path.symlink_to(blob)
    said = refusal(model)
    assert "Hugging Face's Hub says 0000" in said
    assert sha256(blob) in said


def test_sums_that_are_none(model: Path) -> None:
    (model / "SHA256SUMS").write_text("abc model.safetensors\n")
    assert "not as sha256sum writes it" in refusal(model)


def test_an_index_that_is_not_of_these_files(model: Path) -> None:
    edit(model / INDEX, lambda said: said["weight_map"].update({"model.more.weight": shard(model).name}))
    assert "says that model.more.weight is in" in refusal(model)
    (model / INDEX).write_text("{}")
    assert "not an index" in refusal(model)
    (model / INDEX).write_text('{"weight_map": {"model.norm.weight": "../secret"}}')
    assert "no plain file name" in refusal(model)


def test_a_shard_that_is_absent(model: Path) -> None:
    path = shard(model)
    path.unlink()
    assert f"the shard {path.name} is absent; copy the whole model" in refusal(model)


@pytest.mark.parametrize("name", ["up_proj", "layernorm"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(model: Path, name: str, number: float) -> None:
    for path in model.glob("model-*.safetensors"):
        tensors = load_file(path)
        for key, tensor in tensors.items():
            if name in key:
                tensor.view(-1)[:3] = number
                save_file(tensors, path, {"format": "pt"})
                said = refusal(model)
                assert f"{path.name}: {key} holds 3 numbers that are not finite" in said
                return
    pytest.fail("no such tensor")


def test_a_destination_that_holds_something_else(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    assert "holds something else" in refusal(model, out)
    assert (out / "thesis.tex").read_text() == "years of work"
    assert "holds something else" in refusal(model, model)
    (tmp_path / "file").touch()
    assert "holds something else" in refusal(model, tmp_path / "file")


def test_a_destination_made_of_other_weights_is_no_finished_run(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "out")
    before = contents(tmp_path / "out")
    shutil.rmtree(model)
    write_model(model, layers=2, seed=4)
    assert "holds something else" in refusal(model, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_an_empty_directory_is_taken(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pack(model, tmp_path / "out")
    assert "SHA256SUMS" in contents(tmp_path / "out")


def test_two_at_once_are_not_let_in(model: Path, tmp_path: Path) -> None:
    def second(directory: Path) -> None:
        with pytest.raises(CheckpointError, match="another process is quantising there"):
            pack(model, tmp_path / "out")

    pack(model, tmp_path / "out", measure=second)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 52 KiB, where we may make one; the weights alone take as much."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=52k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems may not be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_too_small_is_seen_before_anything_is_written(model: Path, small_disk: Path) -> None:
    said = refusal(model, small_disk / "out")
    assert "bytes are still to be written, and the disk has" in said


class Endless:
    """How much is free on a disk without end."""

    free = 2**60


def test_a_disk_that_is_full_keeps_what_is_whole(
    model: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Somebody else fills it meanwhile: what is free at first is more than in the end.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Endless)
    said = refusal(model, small_disk / "out")
    assert "No space left on device" in said
    assert "it goes on there" in said
    space = small_disk / ".out.quantizing"
    assert list(space.glob("*.safetensors"))
    assert not list(space.glob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    told: list[str] = []
    pack(model, small_disk / "out", tell=told.append)
    assert "going on" in told[0]


def limited(model: Path, out: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    assert "File too large" in refusal(model, out)


def test_a_limit_on_files_is_told(model: Path, tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=limited, args=(model, tmp_path / "out"))
    process.start()
    process.join()
    assert process.exitcode == 0


def unprivileged(model: Path, out: Path) -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    assert "Permission denied" in refusal(model, out)


@pytest.mark.parametrize("place", ["source", "destination"])
def test_a_missing_permission_is_told(model: Path, tmp_path: Path, place: str) -> None:
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755 if place == "source" else 0o555)
    if place == "source":
        shard(model).chmod(0)
    process = multiprocessing.get_context("fork").Process(target=unprivileged, args=(model, tmp_path / "out"))
    process.start()
    process.join()
    tmp_path.chmod(0o755)
    assert process.exitcode == 0


def test_nothing_is_begun_when_the_model_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "open_workspace", None)
    edit(model / CONFIG, lambda said: said.update(model_type="mamba"))
    refusal(model)
