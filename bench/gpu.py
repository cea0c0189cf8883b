"""Decoding on a GPU: our engine beside transformers, in the shape of StableLM-3B with random weights.

    python -m bench.gpu

Prints tokens/s at each number of requests, and which share of the GPU's measured memory bandwidth that is,
if a step did nothing but read weights and cache once. The time of a run that answers with one token is taken
off, so prompts do not count. The last line is one JSON object. Peers that are not installed are left out.
"""

import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from byollm.engine import Engine, SamplingParams
from byollm.modeling import DecoderConfig, load_config, load_decoder
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.settings import load_settings
from byollm.settings.engine import EngineSettings

SHAPE = {  # stabilityai/stablelm-3b-4e1t
    "vocab_size": 50304,
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "partial_rotary_factor": 0.25,
    "max_position_embeddings": 4096,
}
PROMPT, ANSWER = 128, 128  # tokens
BANDWIDTH_BYTES = 1 << 30
MARK_BF16, MARK_INT4, MARK_NF4 = (
    0.8,
    0.6,
    10.0,
)  # shares of bandwidth at batch 1; times transformers + NF4 at 32

Generate = Callable[[list[list[int]], int], object]
"""Answers prompts with so many tokens each, greedily, whatever they are."""


def main(
    batch: Annotated[list[int] | None, typer.Option(help="Requests; by default 1, 8, 32, 64.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Contenders by name; by default all.")] = None,
    layers: Annotated[int, typer.Option(help="Fewer than 32 for a quick look.")] = 32,
    repeats: Annotated[int, typer.Option(help="Runs of each.")] = 3,
) -> None:
    """Measure every contender at every batch."""
    if not torch.cuda.is_available():
        print("there is no GPU: torch finds no CUDA device, so nothing is measured")
        print(json.dumps({"gpu": None, "results": []}))
        return
    gpu, bandwidth = torch.cuda.get_device_name(), measure_bandwidth()
    table = Table("contender", "requests", "tokens/s", "of the bandwidth")
    results: list[dict[str, Any]] = []
    with TemporaryDirectory() as temporary:
        directory = Path(temporary)
        write_model(directory, layers)
        config = load_config(directory)
        for name, (needs, make, bytes_per_weight) in CONTENDERS.items():
            missing = [package for package in needs if find_spec(package) is None]
            if (only and name not in only) or missing:
                if missing:
                    table.add_row(name, "", f"{', '.join(missing)} not installed", "")
                continue
            with made(make, directory) as generate:
                for requests in batch or [1, 8, 32, 64]:
                    try:
                        speeds = measure(generate, config, requests, repeats)
                    except Exception as error:  # a peer's fault must not cost the others their figures
                        table.add_row(
                            name, str(requests), f"failed: {type(error).__name__}: {error}"[:80], ""
                        )
                        continue
                    speed = statistics.median(speeds)
                    share = speed / requests * step_bytes(config, bytes_per_weight, requests) / bandwidth
                    spread = f"{speed:,.0f} ({min(speeds):,.0f}-{max(speeds):,.0f})"
                    table.add_row(name, str(requests), spread, f"{share:.0%}")
                    results.append({"name": name, "requests": requests, "speeds": speeds, "share": share})
    console = Console()
    console.print(f"{gpu}, reading {bandwidth / 1e9:.0f} GB/s; {PROMPT} tokens in, {ANSWER} out, {commit()}")
    console.print(table)
    marks = judge(results)
    console.print(marks)
    print(
        json.dumps(
            {"gpu": gpu, "bandwidth": bandwidth, "commit": commit(), "layers": layers, "marks": marks}
            | {"results": results}
        )
    )


def judge(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return how far the marks are reached, in units of each, as far as what they need was measured."""
    found = {(result["name"], result["requests"]): result for result in results}
    marks = {}
    for name, mark in (("byollm bf16", MARK_BF16), ("byollm int4", MARK_INT4)):
        if (name, 1) in found:
            marks[f"{name} alone"] = found[name, 1]["share"] / mark
    ours, theirs = found.get(("byollm int4", 32)), found.get(("transformers nf4", 32))
    if ours and theirs:
        ratio = statistics.median(ours["speeds"]) / statistics.median(theirs["speeds"])
        marks["byollm int4 over transformers nf4 at 32"] = ratio / MARK_NF4
    return marks


def measure_bandwidth() -> float:
    """Return the bytes per second at which a large tensor is read."""
    from triton.testing import do_bench

    numbers = torch.ones(BANDWIDTH_BYTES // 4, device="cuda")
    milliseconds: float = do_bench(lambda: numbers.sum(), return_mode="median")
    return BANDWIDTH_BYTES / milliseconds * 1000


def write_model(directory: Path, layers: int) -> None:
    """Write a random model as transformers does."""
    import transformers

    config = transformers.StableLmConfig(
        **(SHAPE | {"num_hidden_layers": layers}), bos_token_id=None, eos_token_id=None, pad_token_id=0
    )
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory)


def step_bytes(config: DecoderConfig, bytes_per_weight: float, requests: int) -> float:
    """Return what one step of decoding has to read, half-way through the answers."""
    head = config.vocab_size * config.hidden_size
    table = 0 if config.tie_embeddings else head  # whose rows are looked up, not read
    inside = config.num_parameters() - head - table
    head_bytes = 2.0 if bytes_per_weight > 1 else 1.0  # packed models keep the head in 8 bits
    context = PROMPT + ANSWER / 2
    cache = 2 * config.layers * config.kv_heads * config.head_dim * 2 * context
    return inside * bytes_per_weight + head * head_bytes + requests * cache


def measure(generate: Generate, config: DecoderConfig, requests: int, repeats: int) -> list[float]:
    """Return decoded tokens/s of each repeat."""
    seeded = torch.Generator().manual_seed(0)
    prompts = torch.randint(3, config.vocab_size, (requests, PROMPT), generator=seeded).tolist()
    generate(prompts, ANSWER)  # compiles and captures
    return [
        requests * (ANSWER - 1) / (seconds(generate, prompts, ANSWER) - seconds(generate, prompts, 1))
        for _ in range(repeats)
    ]


def seconds(generate: Generate, prompts: list[list[int]], tokens: int) -> float:
    """Return how long an answer takes."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    generate(prompts, tokens)
    torch.cuda.synchronize()
    return time.perf_counter() - started


@contextmanager
def made(make: Callable[[Path], Generate], directory: Path) -> Iterator[Generate]:
    """Give a contender, and clear the GPU of it afterwards."""
    generate = make(directory)
    try:
        yield generate
    finally:
        del generate
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()


def ours(scheme: Scheme | None = None, **changes: Any) -> Callable[[Path], Generate]:
    """Return what makes our engine, its weights packed, with some settings."""

    def make(directory: Path) -> Generate:
        # Without what would gain from prompts that come again and answers that repeat themselves.
        plain = {"prefix_caching": False, "speculative": "off", "max_running": 64, "max_context": 512}
        settings: EngineSettings = load_settings().engine.override(
            **(plain | {"device": "cuda", "dtype": "bfloat16", "max_batch_tokens": 2048} | changes)
        )
        decoder = load_decoder(directory, torch.bfloat16, "cuda")
        if scheme is not None:
            pack_decoder(decoder, scheme)
        engine = Engine(decoder, None, settings)

        def generate(prompts: list[list[int]], tokens: int) -> None:
            params = SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True)
            for number, prompt in enumerate(prompts):
                engine.add_request(str(number), prompt, params)
            while engine.has_unfinished():
                engine.step()

        return generate

    return make


def transformers_model(directory: Path, **options: Any) -> Any:
    """Load the model with transformers."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.bfloat16, device_map="cuda", **options
    ).eval()


def transformers_generate(**how: Any) -> Callable[[Path], Generate]:
    """Return what makes transformers' `generate` over a batch of equal lengths."""

    def make(directory: Path) -> Generate:
        options: dict[str, Any] = {}
        if how.get("nf4"):
            import transformers

            options["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
            )
        model = transformers_model(directory, **options)
        # With a static cache `generate` compiles the decoding step by itself.
        cache = {"cache_implementation": "static"} if how.get("compiled") else {}

        def generate(prompts: list[list[int]], tokens: int) -> None:
            given = torch.tensor(prompts, device="cuda")
            lengths = {"max_new_tokens": tokens, "min_new_tokens": tokens}
            model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, **lengths, **cache)

        return generate

    return make


def continuous_batching(directory: Path) -> Generate:
    """Make transformers' continuous batching, its manager kept between calls."""
    import transformers
    from transformers.generation import ContinuousBatchingConfig

    model = transformers_model(directory, attn_implementation="sdpa")
    manager = model.init_continuous_batching(
        transformers.GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),
        ContinuousBatchingConfig(max_batch_tokens=2048, max_requests_per_batch=64, allow_block_sharing=False),
    )
    manager.start()

    def generate(prompts: list[list[int]], tokens: int) -> None:
        left = len(manager.add_requests(prompts, max_new_tokens=tokens))
        while left:
            result = manager.get_result(timeout=1)
            if result is not None and result.is_finished():
                left -= 1
                if len(result.generated_tokens) != tokens:
                    raise RuntimeError(f"an answer has {len(result.generated_tokens)} tokens, not {tokens}")

    return generate


def commit() -> str:
    """Return the short id of what is checked out."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


Contender = tuple[tuple[str, ...], Callable[[Path], Generate], float]
PEER = ("transformers", "accelerate")
CONTENDERS: dict[str, Contender] = {  # packages, what makes it, bytes per weight of the layers
    "byollm bf16": ((), ours(), 2.0),
    "byollm int8": ((), ours(Scheme("int8")), 1 + 2 / 128),
    "byollm int4": ((), ours(Scheme("int4")), 0.5 + 2 / 128),
    "torch eager (our model, kernels: torch)": ((), ours(kernels="torch"), 2.0),
    "transformers eager": (PEER, transformers_generate(), 2.0),
    "transformers torch.compile": (PEER, transformers_generate(compiled=True), 2.0),
    "transformers nf4": ((*PEER, "bitsandbytes"), transformers_generate(nf4=True), 0.5 + 4 / 64),
    "transformers continuous batching": (PEER, continuous_batching, 2.0),
}


if __name__ == "__main__":
    sys.exit(typer.run(main))
