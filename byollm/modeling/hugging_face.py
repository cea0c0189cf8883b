"""What Hugging Face's `config.json` says about each family, and our words for it.

The defaults here are those of the configuration classes in transformers: a key that a file leaves out has the
value that transformers would give it. Sizes have no such default: a file must say them.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from byollm.modeling.errors import ModelConfigError
from byollm.modeling.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from byollm.modeling.config import DecoderConfig

ARCHITECTURES = {
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
KV_HEADS = {"qwen3": 32, "qwen2": 32, "mistral": 8, "stablelm": 32}
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh")
QUANTIZATION = "quantization_config"
QUANTIZED_BY_US = "byollm"


def read_config(hf: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a `config.json` into the fields of `DecoderConfig`.

    Raises:
        ModelConfigError: the model type or a feature is not supported, or a key is missing.
    """
    family = hf.get("model_type")
    if not isinstance(family, str) or family not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        raise ModelConfigError(
            f"model_type is {family!r}; supported: {supported}. vLLM serves others (engine: vllm)"
        )
    _refuse_foreign(hf.get(QUANTIZATION))
    return _read_gpt2(hf) if family == "gpt2" else _read_rotary_family(family, hf)


def write_config(config: "DecoderConfig") -> dict[str, Any]:
    """Translate a decoder's shape into a `config.json`, as far as its family has words for it."""
    shared: dict[str, Any] = {
        "architectures": [ARCHITECTURES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": 0.02,
        "use_cache": True,
    }
    return shared | (_write_gpt2(config) if config.family == "gpt2" else _write_rotary_family(config))


def _refuse_foreign(quantization: Any) -> None:
    """Refuse weights that are packed otherwise than `byollm quantize` packs them."""
    if not quantization:
        return
    method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
    if method != QUANTIZED_BY_US:
        raise ModelConfigError(
            f"{QUANTIZATION} is set, by the method {method!r}, which byollm does not read; use the "
            "unquantised checkpoint of this model and pack it with `byollm quantize`"
        )


def _read_rotary_family(family: str, hf: Mapping[str, Any]) -> dict[str, Any]:
    if (activation := hf.get("hidden_act", "silu")) != "silu":
        raise ModelConfigError(f"hidden_act is {activation!r}; a {family} decoder supports silu only")
    hidden, heads, layers = (
        _size(hf, key) for key in ("hidden_size", "num_attention_heads", "num_hidden_layers")
    )
    head_dim = hidden // heads
    if family != "stablelm":
        head_dim = _size(hf, "head_dim", 128 if family == "qwen3" else head_dim)
    rope = _rope(family, hf)
    partial = _number(rope, "partial_rotary_factor")
    attention_bias = bool(hf.get("attention_bias", False)) and family in ("qwen3", "llama")
    layer_norm = family == "stablelm"
    sliding_layers = _sliding_layers(family, hf, layers)
    return {
        "family": family,
        "vocab_size": _size(hf, "vocab_size"),
        "hidden_size": hidden,
        "layers": layers,
        "heads": heads,
        "kv_heads": _size(hf, "num_key_value_heads", KV_HEADS.get(family, heads)),
        "head_dim": head_dim,
        "intermediate_size": _size(hf, "intermediate_size"),
        "max_positions": _size(hf, "max_position_embeddings"),
        "norm": "layer" if layer_norm else "rms",
        "norm_eps": _number(hf, "layer_norm_eps", 1e-5) if layer_norm else _number(hf, "rms_norm_eps", 1e-6),
        "norm_bias": layer_norm,
        "qk_norm": family == "qwen3" or (family == "stablelm" and bool(hf.get("qk_layernorm", False))),
        "rope_theta": _number(rope, "rope_theta"),
        "rotary_dim": int(head_dim * partial),
        "rope_scaling": _rope_scaling(rope, _size(hf, "max_position_embeddings")),
        "qkv_bias": attention_bias
        or family == "qwen2"
        or (family == "stablelm" and bool(hf.get("use_qkv_bias", False))),
        "output_bias": attention_bias,
        "mlp_bias": family == "llama" and bool(hf.get("mlp_bias", False)),
        "sliding_window": _size(hf, "sliding_window", 4096) if sliding_layers else None,
        "sliding_layers": sliding_layers,
        "parallel_residual": family == "stablelm" and bool(hf.get("use_parallel_residual", False)),
        "tie_embeddings": bool(hf.get("tie_word_embeddings", False)),
    }


def _write_rotary_family(config: "DecoderConfig") -> dict[str, Any]:
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.family == "stablelm":
        partial = config.rotary_dim / config.head_dim
        if int(config.head_dim * partial) < config.rotary_dim:  # readers round down
            partial = math.nextafter(partial, 1)
        rope["partial_rotary_factor"] = partial
    if (scaling := config.rope_scaling) is not None:
        rope |= {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind == "llama3":
            rope |= {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_max_positions,
            }
    written: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "hidden_act": config.activation,
        "rope_parameters": rope,
        # The same in the words of transformers 4, which other readers still expect.
        "rope_theta": config.rope_theta,
        "attention_dropout": 0.0,
    }
    if config.rope_scaling is not None:
        written["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    if config.family == "stablelm":
        return written | {
            "layer_norm_eps": config.norm_eps,
            "partial_rotary_factor": rope["partial_rotary_factor"],
            "use_qkv_bias": config.qkv_bias,
            "qk_layernorm": config.qk_norm,
            "use_parallel_residual": config.parallel_residual,
            "hidden_dropout": 0.0,
        }
    written |= {"rms_norm_eps": config.norm_eps, "head_dim": config.head_dim}
    if config.family in ("qwen2", "qwen3"):
        written |= _write_qwen_window(config)
    if config.family == "mistral":
        written["sliding_window"] = config.sliding_window
    if config.family in ("qwen3", "llama"):
        written["attention_bias"] = config.output_bias
    if config.family == "llama":
        written["mlp_bias"] = config.mlp_bias
    return written


def _read_gpt2(hf: Mapping[str, Any]) -> dict[str, Any]:
    activation = hf.get("activation_function", "gelu_new")
    if activation not in TANH_GELUS:
        raise ModelConfigError(f"activation_function is {activation!r}; supported: {', '.join(TANH_GELUS)}")
    for key, supported in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
    ):
        if hf.get(key, supported) != supported:
            raise ModelConfigError(f"{key} is {hf[key]!r}; only {supported} is supported")
    hidden, heads = _size(hf, "n_embd"), _size(hf, "n_head")
    return {
        "family": "gpt2",
        "vocab_size": _size(hf, "vocab_size"),
        "hidden_size": hidden,
        "layers": _size(hf, "n_layer"),
        "heads": heads,
        "kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate_size": _size(hf, "n_inner", 4 * hidden),
        "max_positions": _size(hf, "n_positions"),
        "norm": "layer",
        "norm_eps": _number(hf, "layer_norm_epsilon", 1e-5),
        "norm_bias": True,
        "qk_norm": False,
        "positions": "learned",
        "activation": "gelu_tanh",
        "gated_mlp": False,
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "tie_embeddings": bool(hf.get("tie_word_embeddings", True)),
    }


def _write_gpt2(config: "DecoderConfig") -> dict[str, Any]:
    return {
        "n_embd": config.hidden_size,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.intermediate_size,
        "n_positions": config.max_positions,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        # byollm trains without dropout; transformers' default would add some when training goes on there.
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


def _rope(family: str, hf: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary parameters, whether in the words of transformers 5 or in those of 4."""
    given = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        raise ModelConfigError(f"rope_parameters is {given!r}; expected one set of values for all layers")
    usual = {"rope_theta": 10_000.0, "partial_rotary_factor": 0.25 if family == "stablelm" else 1.0}
    rope = dict(given)
    for key, default in usual.items():
        if rope.get(key) is None:
            rope[key] = default if hf.get(key) is None else hf[key]
    if family != "stablelm" and rope["partial_rotary_factor"] != 1:
        raise ModelConfigError(
            f"partial_rotary_factor is {rope['partial_rotary_factor']!r}; {family} rotates whole heads"
        )
    return rope


def _rope_scaling(rope: Mapping[str, Any], max_positions: int) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", factor=_number(rope, "factor"))
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            factor=_number(rope, "factor"),
            low_freq_factor=_number(rope, "low_freq_factor"),
            high_freq_factor=_number(rope, "high_freq_factor"),
            original_max_positions=_size(rope, "original_max_position_embeddings", max_positions),
        )
    raise ModelConfigError(f"rope scaling {kind!r} is not supported; supported: default, linear, llama3")


def _sliding_layers(family: str, hf: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """Return the layers whose attention is limited to the sliding window."""
    if family == "mistral":
        return tuple(range(layers)) if hf.get("sliding_window", 4096) else ()
    used = hf.get("use_sliding_window", False) and hf.get("sliding_window", 4096)
    if family not in ("qwen2", "qwen3") or not used:
        return ()
    if (types := hf.get("layer_types")) is None:
        return tuple(range(int(hf.get("max_window_layers", 28)), layers))
    if (
        not isinstance(types, list)
        or len(types) != layers
        or not set(types) <= {"sliding_attention", "full_attention"}
    ):
        raise ModelConfigError(
            f"layer_types is {types!r}; expected {layers} of sliding_attention and full_attention"
        )
    return tuple(layer for layer, kind in enumerate(types) if kind == "sliding_attention")


def _write_qwen_window(config: "DecoderConfig") -> dict[str, Any]:
    sliding = config.sliding_layers
    return {
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "max_window_layers": min(sliding, default=config.layers),
        "layer_types": [
            "sliding_attention" if layer in sliding else "full_attention" for layer in range(config.layers)
        ],
    }


def _size(values: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = values.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelConfigError(f"{key} is {value!r}; expected a whole number of at least 1")
    return value


def _number(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = values.get(key)
    value = default if value is None else value
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise ModelConfigError(f"{key} is {value!r}; expected a number above 0")
    return float(value)
