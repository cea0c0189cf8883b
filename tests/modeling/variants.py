"""Configurations of every family and feature, as transformers makes them."""

from typing import Any

import transformers

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SIZES = {
    "vocab_size": 131,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 72,
    "max_position_embeddings": 96,
}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
    "qwen3 tied": {"model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": True},
    "qwen3 biases, own head size": {"model_type": "qwen3", "head_dim": 12, "attention_bias": True},
    "qwen3 sliding": {
        "model_type": "qwen3",
        "head_dim": 8,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen2": {"model_type": "qwen2"},
    "qwen2 tied": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2 sliding in one layer": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 4,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "llama": {"model_type": "llama"},
    "llama all heads": {"model_type": "llama", "num_key_value_heads": 6, "tie_word_embeddings": True},
    "llama one kv head": {"model_type": "llama", "num_key_value_heads": 1},
    "llama biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama 3.1 rope": {"model_type": "llama", "rope_parameters": LLAMA3},
    "llama linear rope": {
        "model_type": "llama",
        "rope_parameters": ROPE | {"rope_type": "linear", "factor": 2.5},
    },
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "mistral sliding": {"model_type": "mistral", "sliding_window": 7, "head_dim": 16},
    "stablelm": {"model_type": "stablelm"},
    "stablelm biases": {"model_type": "stablelm", "use_qkv_bias": True, "tie_word_embeddings": True},
    "stablelm parallel": {"model_type": "stablelm", "use_parallel_residual": True},
    "stablelm norms of heads": {"model_type": "stablelm", "qk_layernorm": True},
    "stablelm half rotary": {
        "model_type": "stablelm",
        "rope_parameters": ROPE | {"partial_rotary_factor": 0.5},
        "use_qkv_bias": True,
        "use_parallel_residual": True,
        "qk_layernorm": True,
    },
    "gpt2": {"model_type": "gpt2"},
    "gpt2 untied": {"model_type": "gpt2", "tie_word_embeddings": False, "n_inner": 100},
}
GPT2_SIZES = {"vocab_size": 131, "n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 96}
FAMILIES = ("qwen3", "qwen2", "llama", "mistral", "stablelm", "gpt2")


def hf_config(variant: str) -> Any:
    """The transformers configuration of a variant."""
    given = VARIANTS[variant]
    sizes = GPT2_SIZES if given["model_type"] == "gpt2" else SIZES
    ids = {"bos_token_id": None, "eos_token_id": None}
    return transformers.AutoConfig.for_model(**(sizes | ids | given))
