"""OpenVINO GenAI's continuous batching, stepped by hand."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openvino  # type: ignore[import-not-found]  # in an environment of its own
import openvino_genai  # type: ignore[import-not-found]
from worker import Generate, answer


def converted(request: dict[str, Any]) -> Path:
    """Export the model once for each kind of weights with optimum-intel; return the directory."""
    directory = Path(request["cache"], f"openvino-{request['weights']}")
    if not directory.exists():
        unfinished = directory.with_name("openvino-unfinished")
        optimum = Path(sys.executable).with_name("optimum-cli")
        command = [optimum, "export", "openvino", "--model", request["model"], "--weight-format"]
        task = ["--task", "text-generation-with-past"]
        subprocess.run([*command, request["weights"], *task, unfinished], check=True)
        unfinished.rename(directory)
    return directory


def load(request: dict[str, Any]) -> Generate:
    """Load the model."""
    config = openvino_genai.SchedulerConfig()
    config.max_num_seqs, config.max_num_batched_tokens, config.cache_size = 32, 4096, 1
    config.enable_prefix_caching = False
    # bfloat16 where the CPU multiplies it, else OpenVINO takes float32 by itself
    properties = {"INFERENCE_NUM_THREADS": request["threads"], "INFERENCE_PRECISION_HINT": "bf16"}
    pipeline = openvino_genai.ContinuousBatchingPipeline(converted(request), config, "CPU", properties)
    count = 0

    def generate(prompts: list[list[int]], tokens: int) -> list[list[float]]:
        nonlocal count
        params = openvino_genai.GenerationConfig()
        params.max_new_tokens, params.ignore_eos, params.do_sample = tokens, True, False
        handles, times = [], []
        for prompt in prompts:
            count += 1
            handles.append(pipeline.add_request(count, openvino.Tensor([prompt]), params))
            times.append([])
        while pipeline.has_non_finished_requests():
            pipeline.step()
            now = time.perf_counter()
            for handle, seen in zip(handles, times, strict=True):
                while handle.can_read():
                    for output in handle.read().values():
                        seen += [now] * len(output.generated_ids)
        return times

    return generate


answer(load)
