"""The model against memory: the arithmetic, and models that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from byollm.doctor import Level
from byollm.doctor.model import host, model_fits
from byollm.settings import SettingsError, load_settings
from tests.doctor.support import found, only, patient

GIB = 2**30


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of 14 GiB, as far as its files tell: 128 KiB of cache a token, 32,768 positions."""
    config = {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
        "max_position_embeddings": 32768,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(14 * GIB)  # a hole: no disk is used
    return tmp_path


def fitting(**engine: Any) -> dict[str, Any]:
    return {"endpoint": {"weights_gib": 14, "scaling": {"concurrency": 12}}, "engine": engine}


def test_the_bundled_model_fits_with_its_arithmetic_shown() -> None:
    only(found(model_fits, patient()), Level.PASS, "cache 32 x 512 tokens x 1 KiB", "A10G", "22")


def test_a_full_batch_that_fits_passes(model: Path) -> None:
    only(found(model_fits, patient(model=model, **fitting(max_context=4096))), Level.PASS, "= 22.00 GiB")


def test_a_batch_too_large_says_how_many_fit(model: Path) -> None:
    finding = only(
        found(model_fits, patient(model=model, **fitting(max_context=8192))), Level.WARN, "= 28.00 GiB"
    )
    assert "6 requests of full length fit" in finding.seen
    assert "concurrency to 6" in finding.remedy


def test_a_context_too_long_for_a_single_request_fails(model: Path) -> None:
    (model / "config.json").write_text(
        (model / "config.json")
        .read_text()
        .replace("32768", "1048576")
        .replace('"num_key_value_heads": 8, ', "")
    )
    only(found(model_fits, patient(model=model, **fitting())), Level.FAIL, "512 KiB", "not even one request")


def test_weights_larger_than_the_settings_say_are_told(model: Path) -> None:
    finding = found(model_fits, patient(model=model, engine={"max_context": 512}))[1]
    only([finding], Level.WARN, "endpoint.weights_gib says 3", "14.00 GiB")


@pytest.mark.parametrize("config", [None, "{", "[]", "{}", '{"num_attention_heads": 0}'])
def test_what_is_no_model_fails(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    only(found(model_fits, patient(model=tmp_path)), Level.FAIL, "no model")


def test_a_model_without_weights_fails(model: Path) -> None:
    (model / "model.safetensors").unlink()
    only(found(model_fits, patient(model=model)), Level.FAIL, "no weights")


def test_the_host_is_shown() -> None:
    only(found(host, patient()), Level.PASS, "CUDA 13.0 at most", "the image has 13.0")
    cpu = {"instance_type": "ml.m7i.xlarge", "host_image": None}
    only(found(host, patient(endpoint=cpu)), Level.PASS, "no GPU")


def test_a_driver_too_old_for_the_image_is_refused_by_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOLLM__ENDPOINT__HOST_IMAGE", "al2-ami-sagemaker-inference-gpu-2")
    with pytest.raises(SettingsError, match=r"CUDA 12.2 at most.*API_ProductionVariant"):
        load_settings("dev")
