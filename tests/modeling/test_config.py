from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from byollm.modeling import Decoder, DecoderConfig, ModelConfigError, RopeScaling

SMALL: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "max_positions": 64,
}


def test_defaults_are_a_qwen3_decoder() -> None:
    config = DecoderConfig(**SMALL)
    assert (config.family, config.qk_norm, config.rotary_dim) == ("qwen3", True, 8)
    assert DecoderConfig.from_hf(config.to_hf()) == config


def test_config_survives_the_way_through_hugging_face(
    variant: str, make_config: Callable[[str], DecoderConfig]
) -> None:
    config = make_config(variant)
    assert DecoderConfig.from_hf(config.to_hf()) == config


def test_every_rotary_dim_survives_rounding() -> None:
    stablelm = {"family": "stablelm", "norm": "layer", "norm_bias": True, "qk_norm": False, "norm_eps": 1e-5}
    for head_dim in range(2, 130):
        for rotary_dim in range(2, head_dim + 1, 2):
            sizes = SMALL | {"head_dim": head_dim, "hidden_size": 4 * head_dim}
            config = DecoderConfig(**sizes, **stablelm, rotary_dim=rotary_dim)
            assert DecoderConfig.from_hf(config.to_hf()).rotary_dim == rotary_dim


def test_parameters_are_counted_exactly(variant: str, make_config: Callable[[str], DecoderConfig]) -> None:
    config = make_config(variant)
    assert config.num_parameters() == sum(p.numel() for p in Decoder(config).parameters())


def test_flops_are_those_that_torch_counts(variant: str, make_config: Callable[[str], DecoderConfig]) -> None:
    config = make_config(variant)
    config = replace(config, sliding_window=None, sliding_layers=())  # torch counts what a window hides
    decoder = Decoder(config)
    tokens = torch.zeros(2, 24, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder.logits(decoder(tokens, torch.arange(24)))
    assert counter.get_total_flops() == tokens.numel() * config.flops_per_token(24)


def test_a_window_bounds_the_cost_of_context() -> None:
    config = DecoderConfig(**SMALL, sliding_window=10, sliding_layers=(1,))
    assert config.flops_per_token(50) - config.flops_per_token(10) == 4 * 40 * 4 * 8  # one layer of two
    assert config.flops_per_token(60) > config.flops_per_token(50)


def test_only_the_named_layers_have_a_window() -> None:
    config = DecoderConfig(**SMALL, sliding_window=10, sliding_layers=(1,))
    assert (config.window(0), config.window(1)) == (None, 10)


def test_keys_of_transformers_4_are_read(make_config: Callable[[str], DecoderConfig]) -> None:
    old = {"model_type": "llama", "rope_theta": 5e5, "hidden_size": 64, "num_hidden_layers": 1}
    old |= {"num_attention_heads": 4, "intermediate_size": 8, "vocab_size": 9, "max_position_embeddings": 7}
    old["rope_scaling"] = {"type": "linear", "factor": 4}
    config = DecoderConfig.from_hf(old)
    assert (config.rope_theta, config.rope_scaling) == (5e5, RopeScaling("linear", 4.0))
    assert (config.kv_heads, config.head_dim) == (4, 16)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"heads": 0}, "heads is 0, but must be at least 1"),
        ({"heads": 3}, r"heads \(3\) must be a multiple of kv_heads \(2\)"),
        ({"rotary_dim": 3}, "rotary_dim is 3, but must be even"),
        ({"rotary_dim": 10}, "must be even and in 0..8"),
        ({"sliding_window": 4}, "must be given together"),
        ({"sliding_window": 4, "sliding_layers": (2,)}, "must be in 0..1"),
        ({"norm_eps": 0.0}, "norm_eps and rope_theta must be above 0"),
        ({"activation": "gelu_tanh"}, "gated MLP uses silu"),
        ({"positions": "learned", "rotary_dim": 8}, "rotary_dim must be 0"),
    ],
)
def test_impossible_shapes_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelConfigError, match=said):
        DecoderConfig(**(SMALL | change))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"family": "mistral", "qk_norm": False, "qkv_bias": True}, "qkv_bias=True"),
        ({"family": "qwen3", "qk_norm": False}, "qk_norm=False"),
        ({"family": "llama", "qk_norm": False, "rotary_dim": 4}, "rotary_dim=4"),
        ({"family": "qwen3", "parallel_residual": True}, "parallel_residual=True"),
    ],
)
def test_what_a_family_cannot_express_is_named(shape: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelConfigError, match=said):
        DecoderConfig(**(SMALL | shape)).to_hf()


@pytest.mark.parametrize(
    ("variant", "change", "said"),
    [
        ("llama", {"model_type": "mamba"}, "model_type is 'mamba'; supported: qwen3, qwen2, llama"),
        ("llama", {"model_type": ["llama"]}, "supported: qwen3"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope scaling 'yarn'"),
        ("llama", {"rope_parameters": {"rope_type": "linear"}}, "factor is None; expected a number above 0"),
        ("llama", {"rope_parameters": {"full_attention": {}}}, "expected one set of values"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "llama rotates whole heads"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ("llama", {"hidden_size": None}, "hidden_size is None; expected a whole number"),
        ("llama", {"num_key_value_heads": "two"}, "num_key_value_heads is 'two'"),
        ("llama", {"rms_norm_eps": -1}, "rms_norm_eps is -1; expected a number above 0"),
        ("llama", {"quantization_config": {"bits": 4}}, "use the unquantised checkpoint"),
        ("qwen2 sliding in one layer", {"layer_types": ["chunked"] * 3}, "layer_types"),
        ("qwen2 sliding in one layer", {"layer_types": ["full_attention"]}, "expected 3 of"),
        ("gpt2", {"activation_function": "relu"}, "supported: gelu_new"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "only False is supported"),
        ("gpt2", {"add_cross_attention": True}, "only False is supported"),
    ],
)
def test_unsupported_features_are_refused_by_name(
    variant: str, change: dict[str, Any], said: str, make_config: Callable[[str], DecoderConfig]
) -> None:
    config = make_config(variant).to_hf()
    config.pop("rope_theta", None)
    with pytest.raises(ModelConfigError, match=said):
        DecoderConfig.from_hf(config | change)


QWEN = {
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 21,
    "tie_word_embeddings": True,
}
LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("model_type", "sizes", "others", "parameters"),
    [
        ("qwen3", (151936, 1024, 28, 16, 8, 3072), QWEN | {"head_dim": 128}, 596_049_920),  # Qwen3-0.6B
        ("qwen2", (151936, 896, 24, 14, 2, 4864), QWEN, 494_032_768),  # Qwen2.5-0.5B
        (
            "llama",
            (128256, 2048, 16, 32, 8, 8192),
            {"tie_word_embeddings": True, "rope_theta": 5e5, "rope_scaling": LLAMA3},
            1_235_814_400,
        ),  # Llama-3.2-1B
        (
            "mistral",
            (32000, 4096, 32, 32, 8, 14336),
            {"sliding_window": 4096},
            7_241_732_096,
        ),  # Mistral-7B
        (
            "stablelm",
            (100352, 2048, 24, 32, 32, 5632),
            {"use_qkv_bias": True, "partial_rotary_factor": 0.25, "rope_theta": 10_000},
            1_644_515_328,
        ),  # stablelm-2-1_6b
    ],
)
def test_published_models_have_their_published_size(
    model_type: str, sizes: tuple[int, ...], others: dict[str, Any], parameters: int
) -> None:
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    published = dict(zip((*names, "intermediate_size"), sizes, strict=True))
    published |= {"model_type": model_type, "max_position_embeddings": 4096}
    config = DecoderConfig.from_hf(published | others)
    assert config.num_parameters() == parameters
    assert DecoderConfig.from_hf(config.to_hf()) == config


def test_gpt2_has_its_published_size() -> None:
    published = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12}
    config = DecoderConfig.from_hf(published | {"n_positions": 1024, "n_ctx": 1024, "attn_pdrop": 0.1})
    assert config.num_parameters() == 124_439_808
