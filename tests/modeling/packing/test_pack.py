"""What is written: every parameter once, packed as the scheme says, in files that others can read."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from byollm.kernels.packed import Scheme
from byollm.modeling import CheckpointError, load_decoder
from byollm.modeling.packed import packed_names, scheme_of
from byollm.modeling.packing import packer
from byollm.modeling.packing.record import Record
from byollm.modeling.packing.source import DirectorySource
from byollm.modeling.quantise import quantise
from tests.modeling.packing.support import INT4, contents, pack, write_model

SCHEMES = [INT4, Scheme("int8", 64), Scheme("nf4", 64), Scheme("nf4", 64, double=True)]


def stored(directory: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "float")


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_every_matrix_is_packed_and_all_else_stays(
    model: Path, tmp_path: Path, scheme: Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packer, "CHUNK_WEIGHTS", 5_000)  # some rows at a time, as large matrices are
    record = pack(model, tmp_path / "out", scheme)
    found, expected = stored(tmp_path / "out"), {}
    for name, tensor in load_decoder(model).state_dict().items():
        if (own := scheme_of(name, scheme)) is None:
            expected[name] = tensor
        else:
            expected |= dict(zip(packed_names(name), quantise(tensor, own)[:2], strict=True))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
    assert record.bytes_after == sum(tensor.nbytes for tensor in expected.values())
    assert record.bytes_before == sum(tensor.nbytes for tensor in load_decoder(model).state_dict().values())


def test_every_family_is_read_as_load_decoder_reads_it(
    variant: str, make_reference: Callable[[str], Any], tmp_path: Path
) -> None:
    make_reference(variant).save_pretrained(tmp_path / "float", max_shard_size="100KB")
    pack(tmp_path / "float", tmp_path / "out", Scheme("nf4", 64))
    found = stored(tmp_path / "out")
    for name, tensor in load_decoder(tmp_path / "float").state_dict().items():
        if name in found:
            assert torch.equal(found[name], tensor), name
        else:
            codes, scales = packed_names(name)
            packed = quantise(tensor, Scheme("nf4", 64))
            assert torch.equal(found[codes], packed.codes), name
            assert torch.equal(found[scales], packed.scales), name


def test_the_directory_says_what_it_is_and_checks_with_sha256sum(model: Path, tmp_path: Path) -> None:
    (model / "tokenizer.model").write_bytes(b"\xff\x00 not text")
    record = pack(model, tmp_path / "out")
    (model / "tokenizer.model").unlink()
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path / "out", check=True)
    names = set(contents(tmp_path / "out"))
    assert {"config.json", "generation_config.json", "tokenizer.model", "README.md"} <= names
    listed = {line.split("  ")[1] for line in (tmp_path / "out" / "SHA256SUMS").read_text().splitlines()}
    assert listed == names - {"SHA256SUMS"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"] == {
        "quant_method": "byollm",
        "version": 1,
        "scheme": "int4",
        "group": 32,
        "calibrated": False,
    }
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == stored(tmp_path / "out").keys()
    assert index["metadata"]["total_size"] == record.bytes_after
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`float` (qwen3)" in card
    assert f"{record.bytes_after:,} bytes" in card
    assert f"{record.bits_per_weight:.2f}" in card
    assert Record.read(DirectorySource(tmp_path / "out")) == record


def test_tensors_are_aligned_in_the_mapped_file(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "out", Scheme("nf4", 64))
    for path in (tmp_path / "out").glob("*.safetensors"):
        data = path.read_bytes()
        first = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:first])
        header.pop("__metadata__")
        for entry in header.values():
            width = {"U8": 1, "BF16": 2, "F32": 4}[entry["dtype"]]
            assert (first + entry["data_offsets"][0]) % width == 0


def test_no_file_is_larger_than_asked_for(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "out", shard_bytes=16_000)  # the largest matrix takes 15,600
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors")]
    assert len(sizes) > 3
    assert max(sizes) < 16_000 + 3_000  # beside tensors a file has a header


def test_small_models_are_one_file_without_an_index(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "out", shard_bytes=10**9)
    assert "model.safetensors" in contents(tmp_path / "out")
    assert "model.safetensors.index.json" not in contents(tmp_path / "out")


def test_calibration_takes_the_text_and_says_so(byte_level_directory: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "float")
    for path in byte_level_directory.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    plain = pack(model, tmp_path / "plain")
    text = "The quick brown fox jumps over the lazy dog. " * 40
    calibrated = pack(model, tmp_path / "calibrated", calibration=text)
    assert calibrated.calibrated
    assert not plain.calibrated
    one, other = stored(tmp_path / "plain"), stored(tmp_path / "calibrated")
    assert one.keys() == other.keys()
    assert not torch.equal(one["layers.0.mlp.up_proj.codes"], other["layers.0.mlp.up_proj.codes"])
    assert torch.equal(one["embed_tokens.codes"], other["embed_tokens.codes"])
    with pytest.raises(CheckpointError, match=r"has \d+ tokens, and a sequence takes 64"):
        pack(model, tmp_path / "short", calibration="The quick brown fox")


def test_a_finished_run_is_not_repeated(model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    first = pack(model, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert pack(model, tmp_path / "out", tell=told.append) == first
    assert "is there already" in told[0]
    assert contents(tmp_path / "out") == before
