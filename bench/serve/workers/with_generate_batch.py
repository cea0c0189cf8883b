"""transformers' continuous batching: `generate_batch`, with its manager kept between calls."""

import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers.generation import ContinuousBatchingConfig, GenerationConfig
from worker import Generate, answer

SLOTS, LENGTH, PAGE = 32, 320, 32


def load(request: dict[str, Any]) -> Generate:
    """Load the model in float32; steps are small, as its attention on a CPU computes all pairs of a step."""
    torch.set_num_threads(request["threads"])
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    manager = model.init_continuous_batching(
        GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        ContinuousBatchingConfig(
            page_size=PAGE,
            num_blocks=(SLOTS + 1) * LENGTH // PAGE,
            max_batch_tokens=256,
            max_requests_per_batch=SLOTS,
            allow_block_sharing=False,
        ),
    )
    manager.start()

    def generate(prompts: list[list[int]], tokens: int) -> list[list[float]]:
        names = manager.add_requests(prompts, max_new_tokens=tokens, record_timestamps=True)
        times: dict[str, list[float]] = {}
        while len(times) < len(names):
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                times[result.request_id] = result.timestamps
        return [times[name] for name in names]

    return generate


answer(load)
