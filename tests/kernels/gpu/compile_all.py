"""Compile every kernel for a GPU that is not there, at StableLM-3B's sizes, and write what each takes.

`python -m tests.kernels.gpu.compile_all 86` stands for an A10G. A driver that only names the GPU takes the
place of CUDA's, and launches become compilations. One JSON object a kernel.
"""

import json
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from byollm.kernels.packed import PackedWeight, Scheme


class Absent:
    """A driver that knows what it would drive."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", int(sys.argv[1]), 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


launch = JITFunction.run


def compile_only(self, *args, grid, warmup, **options):  # type: ignore[no-untyped-def]
    kernel = launch(self, *args, grid=grid, warmup=True, **options)
    taken = {"shared": kernel.metadata.shared, "binary": len(kernel.asm["cubin"])}
    sys.stdout.write(json.dumps({"kernel": self.fn.__name__, **taken}) + "\n")
    return kernel


def main() -> None:
    driver.set_active(Absent())
    JITFunction.run = compile_only
    from byollm.kernels.gpu import activations, norms
    from byollm.kernels.gpu.dequantise import dequantise
    from byollm.kernels.gpu.lora import lora_grouped
    from byollm.kernels.gpu.packed_linear import packed_linear
    from byollm.kernels.gpu.paged_decode import paged_decode
    from byollm.kernels.gpu.paged_prefill import paged_prefill
    from byollm.kernels.gpu.rotary_and_store import rotary_and_store
    from byollm.kernels.gpu.sample import sample

    tokens, hidden, inner, heads, size, vocab = 48, 2560, 6912, 32, 80, 50304
    x, weight = narrow(tokens, hidden), narrow(hidden)
    norms.add_layer_norm(x, x, weight, weight, 1e-5)
    activations.swiglu(*narrow(tokens, 2 * inner).chunk(2, -1))
    q, k, v = narrow(tokens, 3 * heads, size).split(heads, 1)
    cache, angles = narrow(64, heads, 16, size), torch.empty(4096, size // 8)
    places = torch.zeros(tokens, dtype=torch.int64)
    rotary_and_store(q, k, v, angles, angles, places, places, cache, cache)
    tables, counts = torch.zeros(tokens, 256, dtype=torch.int32), torch.zeros(tokens + 1, dtype=torch.int32)
    for kv_heads in (heads, heads // 4):
        pages = cache[:, :kv_heads].contiguous()
        paged_decode(q, pages, pages, tables, counts[1:], None, 2)
    paged_prefill(q, cache, cache, tables, counts, counts[1:], counts[1:], None)
    paged_prefill(
        narrow(2048, heads, 128), narrow(64, 8, 16, 128), narrow(64, 8, 16, 128), tables, *[counts] * 3, 9
    )
    parts = (0, hidden, 2 * hidden)
    a, b = narrow(4, 3, 16, hidden), narrow(4, 3 * hidden, 16)
    lora_grouped(x, a, b, places, narrow(tokens, 3 * hidden), parts)
    for kind, group in (("int4", 128), ("int8", 128), ("nf4", 64)):
        scheme, shape = Scheme(kind, group), (inner, hidden)
        codes = torch.empty(scheme.code_shape(shape), dtype=scheme.code_dtype)
        scales = torch.empty(scheme.scale_shape(shape), dtype=scheme.scale_dtype)
        packed = PackedWeight(codes, scales, scheme, shape)
        dequantise(packed, torch.bfloat16)
        for rows in (1, tokens, 128):
            packed_linear(narrow(rows, hidden), packed, narrow(inner))
    params = [torch.empty(tokens, dtype=torch.float64) for _ in range(3)]
    sample(torch.empty(tokens, vocab), params[0], places, *params[1:], places, places)


def narrow(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
