"""transformers' `generate`, all prompts in one static batch."""

import os
import time
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from worker import Generate, answer


class Clock(transformers.StoppingCriteria):
    """Stops nothing; notes when each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Note the time."""
        self.times.append(time.perf_counter())
        return torch.zeros(len(ids), dtype=torch.bool)


def load(request: dict[str, Any]) -> Generate:
    """Load the model in float32, which on a CPU without bfloat16 units is its faster type."""
    torch.set_num_threads(request["threads"])
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=torch.float32
    ).eval()
    model.generation_config.eos_token_id = None

    def generate(prompts: list[list[int]], tokens: int) -> list[list[float]]:
        clock, ids = Clock(), torch.tensor(prompts)
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=tokens,
            stopping_criteria=[clock],
        )
        return [clock.times] * len(prompts)

    return generate


answer(load)
