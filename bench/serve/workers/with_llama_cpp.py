"""llama.cpp through llama-cpp-python's bindings of its C interface: one batch of all sequences a step."""

import sys
import time
from typing import Any

import llama_cpp  # type: ignore[import-not-found]  # in an environment of its own
from gguf_files import gguf
from worker import Generate, answer

SLOTS = 33  # sequences, and the tokens of each
LENGTH = 512


def load(request: dict[str, Any]) -> Generate:
    """Load the model."""
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(gguf(request)).encode(), llama_cpp.llama_model_default_params()
    )
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = SLOTS * LENGTH, 8192, 512
    params.n_seq_max = SLOTS
    params.n_threads = params.n_threads_batch = request["threads"]
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(8192, 0, 1)
    sampler = llama_cpp.llama_sampler_init_greedy()

    def feed(rows: list[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama_cpp.llama_decode(context, batch):
            sys.exit("llama_decode failed")

    def generate(prompts: list[list[int]], tokens: int) -> list[list[float]]:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        times: list[list[float]] = [[] for _ in prompts]
        chosen = [0] * len(prompts)
        rows = []
        for number, prompt in enumerate(prompts):
            rows += [(token, at, number, at == len(prompt) - 1) for at, token in enumerate(prompt)]
        for step in range(tokens):
            feed(rows)
            wanted = [(row, sequence) for row, (_, _, sequence, asked) in enumerate(rows) if asked]
            for row, sequence in wanted:
                chosen[sequence] = llama_cpp.llama_sampler_sample(sampler, context, row)
            now = time.perf_counter()
            for sequence, token in enumerate(chosen):
                times[sequence].append(now)
                chosen[sequence] = token
            rows = [(token, len(prompts[i]) + step, i, True) for i, token in enumerate(chosen)]
        return times

    return generate


answer(load)
