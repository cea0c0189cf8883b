"""Packs StableLM-3B's true architecture (random weights) under a memory limit, and maps it in under another.

    python -m bench.packing DIRECTORY [--scheme int4] [--limit-gb 1.5]

DIRECTORY is made, takes about 8 GB and is removed. What packs and what loads are processes of their own, of
whose private memory the kernel keeps a limit (RLIMIT_DATA) and whose peak is measured: the most that was
resident, mapped files counted in.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from byollm.modeling import DecoderConfig
from byollm.modeling.packing.record import Record
from byollm.modeling.packing.safetensors_file import PlannedTensor, ShardWriter
from byollm.modeling.packing.source import DirectorySource
from byollm.modeling.stored_tensors import stored_tensors
from byollm.modeling.undrawn import undrawn
from byollm.modeling.weight_files import INDEX

GB = 1e9
SHARDS = 2
# https://huggingface.co/stabilityai/stablelm-3b-4e1t/blob/main/config.json
STABLELM_3B = {
    "architectures": ["StableLmForCausalLM"],
    "model_type": "stablelm",
    "vocab_size": 50304,
    "hidden_size": 2560,
    "intermediate_size": 6912,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "layer_norm_eps": 1e-5,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "use_qkv_bias": False,
}
LOAD = """
import sys
from pathlib import Path
import torch
from byollm.modeling import load_decoder

def resident(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) * 1024

before = resident("VmHWM")
decoder = load_decoder(Path(sys.argv[1]))
after, private = resident("VmHWM"), resident("RssAnon")
with torch.inference_mode():
    stream = decoder.embed_tokens(torch.tensor([[1, 2, 3]])).to(decoder.dtype)
    stream = decoder.layers[0](stream, decoder.rotary(torch.arange(3)), None)
assert stream.isfinite().all()
print(before, after, private)
"""


def write_float(directory: Path) -> int:
    """Write the model in bfloat16 with random weights, tensor by tensor; return its bytes."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(STABLELM_3B, indent=2))
    config = DecoderConfig.from_hf(STABLELM_3B)
    expected = undrawn(config).state_dict()
    tensors = [
        PlannedTensor(each.name, torch.bfloat16, tuple(each.pack(expected).shape))
        for each in stored_tensors(config, expected)
    ]
    total, placed = sum(tensor.nbytes for tensor in tensors), {}
    torch.manual_seed(0)
    for number in range(SHARDS):
        part = tensors[len(tensors) * number // SHARDS : len(tensors) * (number + 1) // SHARDS]
        file = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        with ShardWriter(directory / file, part) as writer:
            for tensor in part:
                value = torch.empty(tensor.shape, dtype=torch.bfloat16)
                writer.put(tensor.name, value.fill_(1) if "norm" in tensor.name else value.normal_(std=0.02))
                placed[tensor.name] = file
    (directory / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": placed}))
    return total


def run(command: list[str], limit: int) -> tuple[int, str]:
    """Run a command with its private memory limited; return its peak of resident memory and its output."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BYOLLM__DATA__OUTPUT": "none"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed within {limit / GB:.2f} GB: {output}")
    return usage.ru_maxrss * 1024, output


def main() -> None:
    """Write, pack, load, remove."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--scheme", default="int4", choices=("int4", "int8", "nf4"))
    parser.add_argument("--limit-gb", type=float, default=1.5)
    options = parser.parse_args()
    source, packed = options.directory / "float", options.directory / "packed"
    limit = int(options.limit_gb * GB)
    try:
        size = write_float(source)
        print(f"float: {size / GB:.2f} GB in bfloat16, {2 * size / GB:.2f} GB in float32", flush=True)
        command = [sys.executable, "-m", "byollm", "quantize", str(source), str(packed)]
        peak, output = run([*command, "--scheme", options.scheme], limit)
        print(output, end="")
        shutil.rmtree(source)  # nothing of it is needed to load
        _, loaded = run([sys.executable, "-c", LOAD, str(packed)], size // 2)
        before, load_peak, own = map(int, loaded.split())
        record = Record.read(DirectorySource(packed))
    finally:
        shutil.rmtree(options.directory, ignore_errors=True)
    result = {
        "bench": "packing",
        "scheme": options.scheme,
        "parameters": record.parameters,
        "gb_float32": round(4 * record.parameters / GB, 3),
        "gb_bfloat16": round(record.bytes_before / GB, 3),
        "gb_packed": round(record.bytes_after / GB, 3),
        "bits_per_weight": round(record.bits_per_weight, 3),
        "limit_gb": options.limit_gb,
        "pack_peak_gb": round(peak / GB, 3),
        "load_limit_gb": round(size / 2 / GB, 3),
        "load_peak_gb": round(load_peak / GB, 3),
        "load_private_gb": round(own / GB, 3),
        "imports_gb": round(before / GB, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
