"""Packed weights in the compiled kernels: what they stand for, and what they never become."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from byollm.engine.native_runner import NativeRunner
from byollm.engine.pieces import Piece
from byollm.kernels.cpu import Precision, load_library
from byollm.modeling import Decoder, DecoderConfig
from byollm.modeling.packed import Scheme
from byollm.modeling.packed_decoder import pack_decoder
from byollm.modeling.quantized import QuantizedLinear
from tests.engine.support import needs_kernels
from tests.modeling.packed_directory import save_packed
from tests.modeling.variants import hf_config

TEXT = torch.randint(0, 131, (40,), generator=torch.Generator().manual_seed(2)).tolist()
VARIANTS = ["qwen3 biases, own head size", "gpt2", "stablelm parallel"]


def packed(variant: str, scheme: Scheme) -> Decoder:
    torch.manual_seed(1)
    decoder = Decoder(DecoderConfig.from_hf(hf_config(variant).to_dict()))
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    pack_decoder(decoder, scheme)
    return decoder


def scores(decoder: Decoder) -> Tensor:
    library = load_library()
    assert library is not None
    runner = NativeRunner(library, decoder, 1, Precision.FLOAT32, threads=1)
    return runner.read_logits([Piece(TEXT, 0, range(3))], runner.new_cache(3))


@torch.inference_mode()
def reference(decoder: Decoder) -> Tensor:
    return decoder.logits(decoder(torch.tensor([TEXT]), torch.arange(len(TEXT))))[0]


def furthest(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@needs_kernels
@pytest.mark.parametrize(
    "scheme", [Scheme("int8", 32), Scheme("int8", 96), Scheme("int4", 32), Scheme("int4", 64)], ids=str
)
@pytest.mark.parametrize("variant", VARIANTS)
def test_integers_differ_by_the_rounding_of_activations_only(variant: str, scheme: Scheme) -> None:
    decoder = packed(variant, scheme)
    assert furthest(scores(decoder), reference(decoder)) < 0.02


@needs_kernels
@pytest.mark.parametrize("variant", VARIANTS)
def test_nf4_becomes_bfloat16(variant: str) -> None:
    decoder = packed(variant, Scheme("nf4", 64))
    found = scores(decoder)
    for name, module in [*decoder.named_modules()]:
        if isinstance(module, QuantizedLinear):
            rounded = torch.nn.Linear(module.in_features, module.out_features)
            rounded.weight.data, rounded.bias = module.dequantised(torch.bfloat16).float(), module.bias
            decoder.set_submodule(name, rounded)
    assert furthest(found, reference(decoder)) < 1e-5


GROWTH = """
import sys
from pathlib import Path
from byollm.engine.runner import make_runner
from byollm.modeling import load_decoder
from byollm.settings import EngineSettings

def peak():  # of resident memory; getrusage counts the parent's too
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

make_runner(load_decoder(Path(sys.argv[1])), 1, EngineSettings(threads=1))
before = peak()
runner = make_runner(load_decoder(Path(sys.argv[2])), 1, EngineSettings(threads=1))
print(peak() - before)
"""


def random_model(inner: int, directory: Path) -> Path:
    """Write a model with random weights in four bits, of which each layer has 2,048 times `inner`."""
    shape = {"vocab_size": 64, "hidden_size": 1024, "heads": 8, "kv_heads": 8, "head_dim": 8}
    config = DecoderConfig(**shape, layers=4, intermediate_size=inner, max_positions=64, tie_embeddings=True)
    decoder = Decoder(config)
    pack_decoder(decoder, Scheme("int4", 128))
    return save_packed(decoder, directory)


@needs_kernels
def test_a_packed_model_is_never_held_as_floats(tmp_path: Path) -> None:
    """It is mapped and copied into panels: twice its size. In bfloat16 it would be four times that size."""
    small, large = random_model(32, tmp_path / "small"), random_model(2048, tmp_path / "large")
    program = [sys.executable, "-c", GROWTH, str(small), str(large)]
    grown = int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
    size = sum(path.stat().st_size for path in large.glob("*.safetensors"))
    assert grown < 3 * size
