"""Compares greedy tokens: `python -m bench.compat MODEL_DIR --peer transformers|vllm|llama.cpp`.

A peer runs in an environment of its own, named by --python; docs/evaluation.md says how to make one. Every
prompt goes to both sides as text, so the tokenizers are compared too. Ends with status 1 where they differ.
"""

import argparse
import itertools
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from byollm.engine import Engine, SamplingParams
from byollm.modeling import DecoderConfig, load_decoder
from byollm.settings import EngineSettings

PEERS = {
    "transformers": "with_transformers.py",
    "vllm": "with_vllm.py",
    "llama.cpp": "with_llama_cpp.py",
}
PROMPTS = (
    "The history of the city",
    "Once upon a time there was a",
    "In 1923, about 45.7% of the members didn't",
    "    def f(x):\n\t\treturn x  # two  spaces\n\n\n",
    "Caf\u00e9 and cafe\u0301, \u00c5ngstr\u00f6m, \u4f60\u597d, \U0001f469\u200d\U0001f4bb!",
    "<|im_start|>user\nWhat is the sun?<|im_end|>\n<|im_start|>assistant\n",
)


@dataclass(frozen=True)
class Greedy:
    """What one side made of the prompts."""

    prompts: list[list[int]]
    outputs: list[list[int]]
    versions: dict[str, Any]


def main() -> int:
    """Run both sides and print them."""
    parser = argparse.ArgumentParser(prog="python -m bench.compat", description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="a model directory in Hugging Face's layout")
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the peer's environment")
    parser.add_argument("--source", type=Path, help="llama.cpp: its source tree, which holds the converter")
    parser.add_argument("--tokens", type=int, default=32, help="how many tokens to generate for each prompt")
    args = parser.parse_args()
    if args.peer == "llama.cpp" and not (args.source and (args.source / "convert_hf_to_gguf.py").is_file()):
        parser.error("--source must name llama.cpp's source tree, with convert_hf_to_gguf.py in it")
    ours = run_ours(args.model, args.tokens)
    theirs = run_peer(args.model, args.peer, args.python, args.source, args.tokens)
    return report(args.model, args.peer, ours, theirs)


def run_ours(model: Path, tokens: int) -> Greedy:
    """Generate with byollm's engine, all prompts in one batch."""
    engine = Engine.load(model, EngineSettings(dtype="float32"))
    assert engine.tokenizer is not None  # Engine.load always reads one
    prompts = [engine.tokenizer.encode(prompt, special=True) for prompt in PROMPTS]
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    outputs: dict[str, list[int]] = {str(number): [] for number in range(len(prompts))}
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt, params)
    while engine.has_unfinished():
        for output in engine.step():
            outputs[output.request_id] += output.token_ids
    return Greedy(
        prompts, list(outputs.values()), {"torch": torch.__version__, "python": platform.python_version()}
    )


def run_peer(model: Path, peer: str, python: str, source: Path | None, tokens: int) -> Greedy:
    """Generate in the peer's own process."""
    config = DecoderConfig.from_hf(json.loads((model / "config.json").read_text()))
    with tempfile.TemporaryDirectory() as scratch:
        request, result = Path(scratch, "request.json"), Path(scratch, "result.json")
        request.write_text(
            json.dumps(
                {
                    "model": str(model.resolve()),
                    "prompts": PROMPTS,
                    "tokens": tokens,
                    "max_length": min(config.max_positions, 512),
                    "source": str(source.resolve()) if source else None,
                }
            )
        )
        script = Path(__file__).parent / "peers" / PEERS[peer]
        run = subprocess.run([python, script, request, result], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(
                f"{peer} failed with status {run.returncode}:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}"
            )
        return Greedy(**json.loads(result.read_text()))


def report(model: Path, peer: str, ours: Greedy, theirs: Greedy) -> int:
    """Print both sides and where they part; return the exit status."""
    print(f"{model.name}: byollm and {peer}, greedy, float32, {datetime.now(UTC):%Y-%m-%d}")
    print(f"byollm {ours.versions}\n{peer} {theirs.versions}")
    equal = 0
    for text, *sides in zip(PROMPTS, ours.prompts, theirs.prompts, ours.outputs, theirs.outputs, strict=True):
        our_prompt, their_prompt, our_output, their_output = sides
        same = agreement(our_output, their_output)
        print(f"\nprompt {text!r}\n  encoded {our_prompt}")
        if our_prompt != their_prompt:
            print(f"  DIFFERENTLY by {peer}: {their_prompt}")
        print(f"  byollm {our_output}\n  {peer} {their_output}\n  equal {same} of {len(our_output)}")
        if our_prompt == their_prompt and same < len(our_output):
            print(
                f"  there our two best logits are {margin(model, our_prompt + our_output[:same]):.2e} apart"
            )
        equal += our_prompt == their_prompt and our_output == their_output
    print(f"\nequal prompts: {equal} of {len(PROMPTS)}")
    print(json.dumps({"peer": peer, "versions": theirs.versions, "equal": equal, "of": len(PROMPTS)}))
    return 0 if equal == len(PROMPTS) else 1


def agreement(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Count the tokens before the first difference."""
    return sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))
    )


@torch.inference_mode()
def margin(model: Path, tokens: list[int]) -> float:
    """How far apart the two likeliest tokens after `tokens` are: a tie by rounding is told from a fault."""
    decoder = load_decoder(model, dtype=torch.float32)
    hidden = decoder(torch.tensor([tokens]), torch.arange(len(tokens)))
    best = decoder.logits(hidden[0, -1]).topk(2).values
    return float(best[0] - best[1])


if __name__ == "__main__":
    sys.exit(main())
