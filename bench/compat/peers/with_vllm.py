"""Greedy tokens from vLLM; runs in vLLM's own environment: `with_vllm.py REQUEST.json RESULT.json`."""

import json
import os
import sys
from importlib.metadata import distributions
from pathlib import Path

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import vllm  # type: ignore[import-not-found]  # in an environment of its own


def main(request_file: str, result_file: str) -> None:
    """Answer the request."""
    request = json.loads(Path(request_file).read_text())
    llm = vllm.LLM(
        request["model"],
        dtype="float32",
        enforce_eager=True,
        max_model_len=request["max_length"],
        max_num_seqs=len(request["prompts"]),
        enable_prefix_caching=False,
    )
    params = vllm.SamplingParams(temperature=0.0, max_tokens=request["tokens"], ignore_eos=True)
    outputs = llm.generate(request["prompts"], params)
    result = {
        "versions": {
            "vllm": vllm.__version__,
            "distribution": ", ".join(
                f"{d.name} {d.version}" for d in distributions() if d.name.startswith("vllm")
            ),
            "torch": torch.__version__,
        },
        "prompts": [list(output.prompt_token_ids) for output in outputs],
        "outputs": [list(output.outputs[0].token_ids) for output in outputs],
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
