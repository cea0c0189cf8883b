"""Greedy tokens from transformers: `with_transformers.py REQUEST.json RESULT.json`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers


def main(request_file: str, result_file: str) -> None:
    """Answer the request."""
    request = json.loads(Path(request_file).read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["model"])
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32)
    model.generation_config.eos_token_id = None  # go on to the last token, as every side does here
    prompts = [tokenizer(prompt)["input_ids"] for prompt in request["prompts"]]
    outputs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=request["tokens"]
        )
        outputs.append(made[0, len(prompt) :].tolist())
    result = {
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        "prompts": prompts,
        "outputs": outputs,
    }
    Path(result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
