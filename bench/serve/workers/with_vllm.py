"""vLLM's CPU build, stepped by hand."""

import os
import time
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

import vllm  # type: ignore[import-not-found]  # in an environment of its own
from worker import Generate, answer


def load(request: dict[str, Any]) -> Generate:
    """Load the model, compiled unless that fails."""
    llm = vllm.LLM(
        request["model"],
        dtype=request["weights"],
        max_model_len=512,
        max_num_seqs=32,
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    engine = llm.llm_engine
    count = 0

    def generate(prompts: list[list[int]], tokens: int) -> list[list[float]]:
        nonlocal count
        params = vllm.SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        times: dict[str, list[float]] = {}
        for prompt in prompts:
            count += 1
            name = str(count)
            times[name] = []
            engine.add_request(name, {"prompt_token_ids": prompt}, params)
        while engine.has_unfinished_requests():
            outputs = engine.step()
            now = time.perf_counter()
            for output in outputs:
                seen = times[output.request_id]
                seen += [now] * (len(output.outputs[0].token_ids) - len(seen))
        return list(times.values())

    return generate


answer(load)
