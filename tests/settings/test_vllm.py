"""vLLM in the settings: how it is chosen, and what is refused before it is ever loaded."""

from pathlib import Path
from typing import Any

import pytest

from byollm.settings import EndpointSpec, SettingsError, load_settings
from byollm.settings.engine import EngineSettings
from byollm.settings.vllm import IN_VLLM, KEPT


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("engine: {stall_seconds: 30}\n")
    (tmp_path / "dev.yaml").write_text("engine: vllm\n")
    return tmp_path


def test_a_word_chooses_it_and_other_layers_keep_what_they_say(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYOLLM__ENGINE__MAX_WAITING", "5")
    engine = load_settings("dev", directory).engine
    assert (engine.backend, engine.stall_seconds, engine.max_waiting) == ("vllm", 30, 5)


def test_the_word_may_come_from_a_variable(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "dev.yaml").write_text("engine: byollm\n")
    monkeypatch.setenv("BYOLLM__ENGINE", "vllm")
    monkeypatch.setenv("BYOLLM__ENGINE__MAX_WAITING", "5")
    engine = load_settings("dev", directory).engine
    assert (engine.backend, engine.stall_seconds, engine.max_waiting) == ("vllm", 30, 5)


@pytest.mark.parametrize("in_file", [True, False])
def test_an_unknown_word_is_refused_with_those_known(
    directory: Path, monkeypatch: pytest.MonkeyPatch, in_file: bool
) -> None:
    if in_file:
        (directory / "dev.yaml").write_text("engine: vlm\n")
    else:
        monkeypatch.setenv("BYOLLM__ENGINE", "vlm")
    with pytest.raises(SettingsError, match=r"engine.backend: .*'byollm' or 'vllm' \(value 'vlm'\)"):
        load_settings("dev", directory)


def test_options_pass_through_from_a_file_and_from_variables(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "dev.yaml").write_text("engine: {backend: vllm, vllm: {tensor-parallel-size: 4}}\n")
    monkeypatch.setenv("BYOLLM__ENGINE__VLLM__ENFORCE_EAGER", "true")
    monkeypatch.setenv("BYOLLM__ENGINE__VLLM__QUANTIZATION", "fp8")
    monkeypatch.setenv("BYOLLM__ENGINE__VLLM__HF_OVERRIDES", '{"rope_theta": 1e6}')
    assert load_settings("dev", directory).engine.vllm == {
        "tensor_parallel_size": 4,
        "enforce_eager": True,
        "quantization": "fp8",
        "hf_overrides": {"rope_theta": 1e6},
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vllm": {"seed": 1}}, "backend is byollm: set backend: vllm"),
        ({"backend": "vllm", "vllm": {"model": "x"}}, "model cannot be set: server.model names it"),
        ({"backend": "vllm", "vllm": {"data-parallel-size": 2}}, "start more servers"),
        ({"backend": "vllm", "max_context": 512}, "set engine.vllm.max_model_len"),
        ({"backend": "vllm", "quantization": "int4"}, "set engine.vllm.quantization"),
        ({"backend": "vllm", "threads": 2}, "threads is a setting of byollm's own engine.*take it out"),
    ],
)
def test_what_would_be_ignored_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EngineSettings(**settings)


def test_what_names_a_setting_names_one_that_exists() -> None:
    assert IN_VLLM.keys() | KEPT <= EngineSettings.model_fields.keys()
    assert not IN_VLLM.keys() & KEPT


BIG = {"weights_gib": 60, "instance_type": "ml.g5.12xlarge"}


def test_a_model_larger_than_one_gpu_finds_room_on_several() -> None:
    EndpointSpec.model_validate(BIG | {"gpus": 4})
    with pytest.raises(ValueError, match=r"30 GiB of weights and 2 GiB to run them are 32 GiB; a GPU"):
        EndpointSpec.model_validate(BIG | {"gpus": 2})
    with pytest.raises(ValueError, match=r"8 are more than the 4 of ml\.g5\.12xlarge"):
        EndpointSpec.model_validate(BIG | {"gpus": 8})


def test_an_endpoint_of_several_gpus_needs_an_engine_that_uses_them(directory: Path) -> None:
    (directory / "dev.yaml").write_text("engine: vllm\nendpoint: {gpus: 4, instance_type: ml.g5.12xlarge}\n")
    with pytest.raises(SettingsError, match=r"over 4 GPUs, and engine\.vllm does so over 1"):
        load_settings("dev", directory)
    engine = "engine: {backend: vllm, vllm: {tensor_parallel_size: 2, pipeline_parallel_size: 2}}"
    (directory / "dev.yaml").write_text(f"{engine}\nendpoint: {{gpus: 4, instance_type: ml.g5.12xlarge}}\n")
    assert load_settings("dev", directory).endpoint.gpus == 4
