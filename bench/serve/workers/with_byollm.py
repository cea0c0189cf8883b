"""byollm's engine."""

import time
from pathlib import Path
from typing import Any

import torch
from worker import Generate, answer

from byollm.engine import Engine, SamplingParams
from byollm.settings import EngineSettings


def load(request: dict[str, Any]) -> Generate:
    """Load the model into an engine."""
    torch.set_num_threads(request["threads"])
    weights: dict[str, Any] = {
        "bf16": {"dtype": "bfloat16"},
        "int8": {"quantization": "int8"},
        "int4": {"quantization": "int4"},
    }[request["weights"]]
    # Random prompts have nothing in common, and drafts would make repeated ones look better than they are.
    plain = {"prefix_caching": False, "speculative": "off"}
    engine = Engine.load(Path(request["model"]), EngineSettings(**weights, **plain))

    def generate(prompts: list[list[int]], tokens: int) -> list[list[float]]:
        params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
        times: dict[str, list[float]] = {str(number): [] for number in range(len(prompts))}
        for number, prompt in enumerate(prompts):
            engine.add_request(str(number), prompt, params)
        while engine.has_unfinished():
            outputs = engine.step()
            now = time.perf_counter()
            for output in outputs:
                times[output.request_id] += [now] * len(output.token_ids)
        return list(times.values())

    return generate


answer(load)
