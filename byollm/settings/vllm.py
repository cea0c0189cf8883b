"""vLLM's options: which of them may be set, and which of byollm's own they take the place of."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator

KEPT = frozenset({"backend", "vllm", "cores", "max_waiting", "stream_interval_s", "stall_seconds"})
"""Settings of the engine that mean the same with vLLM."""

IN_VLLM = {
    "dtype": "dtype",
    "quantization": "quantization",
    "max_context": "max_model_len",
    "max_running": "max_num_seqs",
    "max_batch_tokens": "max_num_batched_tokens",
    "cache_blocks": "num_gpu_blocks_override",
    "cache_bytes": "kv_cache_memory_bytes",
    "prefix_caching": "enable_prefix_caching",
    "adapter_slots": "max_loras",
    "max_adapters": "max_cpu_loras",
    "max_adapter_rank": "max_lora_rank",
    "speculative": "speculative_config",
}
"""What the others are called there, where they have a counterpart."""

RESERVED = {
    "model": "server.model names it",
    "tokenizer": "it is that of server.model",
    "tokenizer_mode": "the server's own tokenizer decides it",
    "skip_tokenizer_init": "answers are text",
    "served_model_name": "server.model_name sets it",
    "runner": "the server generates; server.embedding_model embeds",
    "convert": "the server generates; server.embedding_model embeds",
    "disable_log_stats": "the server's metrics are made from them",
    "data_parallel_size": "each server runs one copy; start more servers",
}
"""Options that are the server's to set, and why."""


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with underscores in their names, and as values what variables of the environment spell.

    Raises:
        ValueError: one is the server's to set.
    """
    named = {name.replace("-", "_"): _read(value) for name, value in options.items()}
    for name, why in RESERVED.items():
        if name in named:
            raise ValueError(f"{name} cannot be set: {why}. Take it out")
    return named


def _read(value: Any) -> Any:
    """A number, a flag or an object that is written as text, as in a variable; other texts as they are."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


VllmOptions = Annotated[dict[str, Any], AfterValidator(check_options)]


def no_use(name: str) -> str:
    """Say that a setting of byollm's own engine is not one of vLLM's, and what is."""
    instead = f"set engine.vllm.{IN_VLLM[name]}" if name in IN_VLLM else "take it out"
    return f"{name} is a setting of byollm's own engine, and backend is vllm: {instead}"
