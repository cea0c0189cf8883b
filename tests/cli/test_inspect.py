"""What `byollm inspect` shows agrees with the files, with the engine's cache and with the settings."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from typer.testing import CliRunner

from byollm.cli.main import app
from byollm.engine.kv_cache import BLOCK_SIZE, bytes_per_block
from byollm.modeling import CheckpointError, load_config
from byollm.settings import ByollmError, EndpointSpec
from byollm.settings.instances import GPU_MEMORY_GIB
from byollm.settings.memory import GIB
from tests.doctor.support import BUNDLED
from tests.modeling.packing.support import pack, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "mine")


def inspect(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def said(*arguments: object) -> dict[str, Any]:
    ran = inspect(*arguments, "--json")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_the_bundled_model_is_shown_with_the_arithmetic() -> None:
    ran = inspect(BUNDLED, "--context", 512, "--batch", 32)
    assert "byollm-tiny: qwen3, 3,147,968 parameters, bfloat16, 16.00 bits per weight" in ran.output
    assert "cache: 2 x 4 layers x 1 heads x 64 channels x 2 bytes = 1 KiB a token" in ran.output
    assert "weights 0.01 + runtime 2 + cache 32 x 512 tokens x 1 KiB = 2.02 GiB" in ran.output
    assert all(gpu in ran.output for gpu in GPU_MEMORY_GIB)


def test_bytes_are_those_of_the_tensors_float_and_packed(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "packed")
    for directory, scheme in ((model, "bfloat16"), (tmp_path / "packed", "int4, groups of 32")):
        found = said(directory)
        tensors = {k: v for path in directory.glob("*.safetensors") for k, v in load_file(path).items()}
        assert found["bytes"] == sum(tensor.nbytes for tensor in tensors.values())
        assert found["parts"]["attention"] == sum(
            tensor.nbytes for name, tensor in tensors.items() if "self_attn" in name and "norm" not in name
        )
        assert found["scheme"] == scheme
        assert found["parts"].keys() == {
            "embedding",
            "attention",
            "feed-forward",
            "head",
            "norms and biases",
        }


def test_a_token_takes_what_the_engine_takes_for_it(model: Path) -> None:
    block = bytes_per_block(load_config(model), torch.bfloat16)
    assert said(model)["cache_bytes_per_token"] * BLOCK_SIZE == block


def test_what_fits_is_what_the_settings_take(model: Path) -> None:
    """The endpoint is checked without a cache; a request of one token adds next to nothing to that."""
    for weights in (12.9, 13.1, 19.9, 20.1, 77.5, 130.0):
        for fit in _fits(weights):
            spec = {"instance_type": fit["instance_types"][0], "weights_gib": weights}
            if fit["fits"]:
                EndpointSpec.model_validate(spec)
            else:
                with pytest.raises(ValidationError, match="GiB of weights"):
                    EndpointSpec.model_validate(spec)


def _fits(weights_gib: float) -> list[dict[str, Any]]:
    from byollm.cli.inspect import _fits as fits
    from byollm.settings.memory import Footprint

    return fits(Footprint(weights_gib=weights_gib, token_bytes=1024), 1, 1, 4096)


def test_the_figures_of_a_gpu_are_consistent(model: Path) -> None:
    found = said(model, "--context", 64, "--batch", 1000)
    for fit in found["gpus"]:
        room = fit["memory_gib"] * GIB - found["bytes"] - 2 * GIB
        assert fit["requests_at_context"] == int(room // (64 * found["cache_bytes_per_token"]))
        assert fit["context_at_batch"] == 64  # of all positions; there would be room for more
        assert fit["fits"]


def test_hashes_are_verified(model: Path, tmp_path: Path) -> None:
    pack(model, tmp_path / "packed")
    found = said(tmp_path / "packed", "--verify")
    assert "model-00001-of-00003.safetensors" in found["sha256"]
    assert "files are what they should be" in inspect(tmp_path / "packed", "--verify").output
    path = tmp_path / "packed" / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    ran = inspect(tmp_path / "packed", "--verify")
    assert isinstance(ran.exception, CheckpointError)
    assert "model-00002-of-00003.safetensors is corrupt" in str(ran.exception)
    (tmp_path / "packed" / "README.md").unlink()
    assert "names README.md, which is absent" in str(inspect(tmp_path / "packed", "--verify").exception)


def test_without_sums_there_is_nothing_to_verify(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "mine")
    ran = inspect(tmp_path / "mine", "--verify")
    assert isinstance(ran.exception, ByollmError)
    assert "sha256sum * > SHA256SUMS" in str(ran.exception)
    subprocess.run("sha256sum * > SHA256SUMS", shell=True, cwd=tmp_path / "mine", check=True)
    assert inspect(tmp_path / "mine", "--verify").exit_code == 0
