"""LoRA adapters are read as PEFT means them, and whatever else is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from byollm.modeling import Adapter, AdapterError, Decoder, DecoderConfig, load_adapter, load_decoder
from tests.adapters import make_adapter, merged
from tests.modeling.variants import hf_config

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FAMILIES = ("qwen3", "llama biases", "stablelm", "gpt2")

Base = tuple[Any, Decoder]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Base]:
    """A tiny model by transformers, and ours with the same weights."""

    def make(variant: str) -> Base:
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(hf_config(variant)).eval()
        directory = tmp_path_factory.mktemp("base")
        model.save_pretrained(directory)
        return model, load_decoder(directory, torch.float32)

    return make


@pytest.fixture(scope="module")
def llama(base: Callable[[str], Base]) -> Base:
    return base("llama")


@pytest.fixture(scope="module")
def good(llama: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(llama[0], tmp_path_factory.mktemp("good") / "adapter")


@pytest.fixture
def change(good: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the good adapter with other fields in its config, or other tensors."""

    def make(tensors: dict[str, torch.Tensor] | None = None, **fields: Any) -> Path:
        said = json.loads((good / CONFIG).read_text()) | fields
        (tmp_path / CONFIG).write_text(json.dumps(said))
        save_file(load_file(good / WEIGHTS) if tensors is None else tensors, tmp_path / WEIGHTS)
        return tmp_path

    return make


def apply(adapter: Adapter, decoder: Decoder) -> dict[str, torch.Tensor]:
    """The weights of a decoder with an adapter added to them."""
    weights = decoder.state_dict()
    return {
        f"{name}.weight": weights[f"{name}.weight"] + pair.b @ pair.a
        for name, pair in adapter.weights.items()
    }


def refusal(directory: Path, config: DecoderConfig, **limits: Any) -> str:
    with pytest.raises(AdapterError) as caught:
        load_adapter(directory, config, "x", **limits)
    assert str(directory) not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("scaling", ["alpha", "rsLoRA", "patterns"])
@pytest.mark.parametrize("variant", FAMILIES)
def test_what_is_added_is_what_peft_merges(
    variant: str, scaling: str, base: Callable[[str], Base], tmp_path: Path
) -> None:
    model, decoder = base(variant)
    one = "c_attn" if variant == "gpt2" else "q_proj"
    stem = "transformer.h.0.attn" if variant == "gpt2" else "model.layers.0.self_attn"
    settings: dict[str, Any] = {
        "alpha": {},
        "rsLoRA": {"r": 3, "lora_alpha": 7, "use_rslora": True},
        "patterns": {"rank_pattern": {one: 6}, "alpha_pattern": {f"^{stem}.{one}": 5, one: 9}},
    }[scaling]
    directory = make_adapter(model, tmp_path / "adapter", **settings)
    added = apply(load_adapter(directory, decoder.config, "x"), decoder)
    merged(model, directory).save_pretrained(tmp_path / "merged")
    wanted = load_decoder(tmp_path / "merged", torch.float32).state_dict()
    assert len(added) == len(decoder.layers) * (7 if decoder.config.gated_mlp else 6)
    for name, weight in added.items():
        torch.testing.assert_close(weight, wanted[name], msg=name)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; expected LORA"),
        ({"use_dora": True}, "'use_dora' is True"),
        ({"bias": "all"}, "bias is 'all'; expected none"),
        ({"modules_to_save": ["lm_head"]}, "'modules_to_save'"),
        ({"something_of_next_year": 3}, "'something_of_next_year' is 3"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"lora_alpha": "much"}, "'lora_alpha' is 'much'; expected a number"),
        ({"lora_alpha": 1e400}, "'lora_alpha' is inf; expected a number"),
        ({"lora_alpha": 1e300}, "not finite"),
        ({"alpha_pattern": {".*q_proj": 1}}, "alpha_pattern has '.*q_proj'"),
        ({"alpha_pattern": [1]}, "alpha_pattern is no object"),
        ({"rank_pattern": [4]}, "rank_pattern is no object"),
        ({"r": 8}, "has rank 4, and its config says 8"),
    ],
)
def test_a_config_that_cannot_be_obeyed_is_refused_by_its_field(
    fields: dict[str, Any], words: str, change: Callable[..., Path], llama: Base
) -> None:
    assert words in refusal(change(**fields), llama[1].config)


def test_tensors_that_do_not_fit_are_refused_by_name(
    good: Path, change: Callable[..., Path], llama: Base
) -> None:
    config = llama[1].config
    tensors = load_file(good / WEIGHTS)
    stem = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    a, b = f"{stem}A.weight", f"{stem}B.weight"

    def told(**changes: torch.Tensor | None) -> str:
        named = {a if side == "a" else b if side == "b" else side: new for side, new in changes.items()}
        kept = {name: tensor for name, tensor in (tensors | named).items() if tensor is not None}
        return refusal(change(kept), config)

    assert "lora_A (4, 48) and lora_B (40, 4); expected (rank, 48) and (48, rank)" in told(b=tensors[b][:40])
    assert "another model, says its config" in told(a=tensors[a][:, :40].contiguous())
    assert "q_proj' has no lora_B.weight" in told(b=None)
    assert "not finite" in told(a=tensors[a] * torch.nan)
    assert "is torch.int64; expected float32" in told(a=tensors[a].long())
    embedding = "base_model.model.model.embed_tokens.lora_embedding_A"
    assert "no part of a LoRA adapter" in told(**{embedding: tensors[a].clone()})
    head = {f"base_model.model.lm_head.lora_{side}.weight": torch.ones(4, 4) for side in "AB"}
    assert "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj" in told(**head)
    assert "rank 4, above the limit of 3" in refusal(change(), config, max_rank=3)
    assert "holds no tensors" in refusal(change({}), config)


def test_files_that_are_absent_damaged_or_huge_are_refused(change: Callable[..., Path], llama: Base) -> None:
    config = llama[1].config
    directory = change()
    whole = (directory / WEIGHTS).read_bytes()
    for damaged in (b"", whole[:-1], b"\xff" * 64, b"\x08" + bytes(7) + b'{"a": 1}'):
        (directory / WEIGHTS).write_bytes(damaged)
        assert f"{WEIGHTS}: damaged" in refusal(directory, config)
    with (directory / WEIGHTS).open("wb") as file:
        file.truncate(2**40)  # a hole, which takes no room
    assert "larger than" in refusal(directory, config)
    (directory / WEIGHTS).rename(directory / "adapter_model.bin")
    assert "safe_serialization=True" in refusal(directory, config)
    (directory / WEIGHTS).mkdir()
    assert f"{WEIGHTS}: absent" in refusal(directory, config)
    (directory / CONFIG).write_text("[" * 100_000)
    assert f"{CONFIG}: not JSON" in refusal(directory, config)
    (directory / CONFIG).write_text("[]")
    assert "expected a JSON object" in refusal(directory, config)
    (directory / CONFIG).unlink()
    assert f"{CONFIG}: absent" in refusal(directory, config)
