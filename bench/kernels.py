"""The GPU kernels one by one, beside torch: `python -m bench.kernels`, on a machine with a GPU.

At StableLM-3B's sizes, in bfloat16. Each runs from a captured graph, the cache emptied between runs, so what
is measured is the GPU's work and not Python's; the share is of the copy bandwidth, or of the rate of a large
matrix product, that the same run measures. `--check` instead tries every case once at small sizes, against
torch, in Triton's interpreter where there is no GPU. The last line is one JSON object.
"""

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

Call = Callable[[], Any]


@dataclass(frozen=True)
class Sizes:
    """What the kernels are given.

    Attributes:
        rows: batches of a decoding step.
        context: positions that each row sees.
        prompt: tokens of a prompt.
    """

    hidden: int
    inner: int
    heads: int
    size: int
    pairs: int
    vocab: int
    rows: tuple[int, ...]
    context: int
    prompt: int
    dtype: torch.dtype
    device: str


@dataclass(frozen=True)
class Case:
    """One kernel with one shape.

    Attributes:
        ours: calls the kernel.
        eager: does the same in torch.
        moved: bytes that have to be read and written.
        flops: operations, where they and not the bytes are the bound.
        compiles: whether torch.compile can take it.
    """

    name: str
    shape: str
    ours: Call
    eager: Call
    moved: int
    flops: int = 0
    compiles: bool = True


@dataclass(frozen=True)
class Measured:
    """What a case took, in microseconds."""

    name: str
    shape: str
    ours: float
    eager: float
    compiled: float | None
    gigabytes: float
    share: float


STABLELM_3B = Sizes(2560, 6912, 32, 80, 10, 50304, (1, 32), 1024, 2048, torch.bfloat16, "cuda")
SMALL = {"hidden": 96, "inner": 80, "heads": 2, "size": 24, "pairs": 3, "vocab": 300}


def cases(sizes: Sizes) -> Iterator[Case]:
    """Every kernel, where decoding and prompts use it."""
    for rows in sizes.rows:
        yield from elementwise(sizes, rows)
        yield from attention(sizes, rows)
        yield from products(sizes, rows)
        yield from sampling(sizes, rows)
    yield prefill(sizes)


def elementwise(sizes: Sizes, rows: int) -> Iterator[Case]:
    """Norm, activation, rotation and the write to the cache."""
    from byollm.kernels import apply_rotary, swiglu
    from byollm.kernels.gpu import activations, norms
    from byollm.kernels.gpu.rotary_and_store import rotary_and_store
    from byollm.kernels.layer_norm import add_layer_norm

    x, residual = draw(sizes, rows, sizes.hidden), draw(sizes, rows, sizes.hidden)
    weight, bias = draw(sizes, sizes.hidden), draw(sizes, sizes.hidden)
    given = x, residual, weight, bias, 1e-5
    yield Case(
        "add_layer_norm",
        f"{rows} x {sizes.hidden}",
        lambda: norms.add_layer_norm(*given),
        lambda: add_layer_norm(*given),
        4 * nbytes(x),
    )
    gate, up = draw(sizes, rows, 2 * sizes.inner).chunk(2, -1)
    yield Case(
        "swiglu",
        f"{rows} x {sizes.inner}",
        lambda: activations.swiglu(gate, up),
        lambda: swiglu(gate, up),
        3 * nbytes(gate),
    )
    q, k, v = draw(sizes, rows, 3 * sizes.heads, sizes.size).split(sizes.heads, 1)
    keys, values = (draw(sizes, rows + 1, sizes.heads, 16, sizes.size) for _ in range(2))
    angles = torch.outer(torch.arange(sizes.context), torch.arange(1, sizes.pairs + 1)).to(sizes.device)
    cos, sin = angles.cos(), angles.sin()
    positions = torch.arange(rows, device=sizes.device) % sizes.context
    slots = 17 * torch.arange(rows, device=sizes.device)

    def turn() -> Tensor:
        turned, fresh = (apply_rotary(t, cos[positions], sin[positions]) for t in (q, k))
        for cache, new in ((keys, fresh), (values, v)):
            cache[slots // 16, :, slots % 16] = new
        return turned

    yield Case(
        "rotary_and_store",
        f"{rows} x {sizes.heads} x {sizes.size}",
        lambda: rotary_and_store(q, k, v, cos, sin, positions, slots, keys, values),
        turn,
        6 * nbytes(q),
    )


def attention(sizes: Sizes, rows: int) -> Iterator[Case]:
    """A step of decoding over a scattered cache, with keys for each query and with shared ones."""
    from byollm.kernels.gpu.paged_decode import paged_decode

    for kv_heads in (sizes.heads, max(1, sizes.heads // 8)):
        q = draw(sizes, rows, sizes.heads, sizes.size)
        keys, values, tables = paged(sizes, rows, kv_heads)
        lengths = torch.full((rows,), sizes.context, dtype=torch.int32, device=sizes.device)
        given = q, keys, values, tables, lengths, None

        def gathered(
            q: Tensor = q, keys: Tensor = keys, values: Tensor = values, t: Tensor = tables
        ) -> Tensor:
            k, v = (x[t].transpose(1, 2).flatten(2, 3)[:, :, : sizes.context] for x in (keys, values))
            return F.scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=True)[:, :, 0]

        yield Case(
            "paged_decode",
            f"{rows} x {sizes.context}, {sizes.heads}/{kv_heads} heads",
            lambda given=given: paged_decode(*given),
            gathered,
            2 * rows * sizes.context * kv_heads * sizes.size * q.element_size(),
        )


def prefill(sizes: Sizes) -> Case:
    """A whole prompt; torch has its keys in one piece."""
    from byollm.kernels import causal_attention
    from byollm.kernels.gpu.paged_prefill import paged_prefill

    tokens = sizes.prompt
    keys, values, tables = paged(sizes, 1, sizes.heads, tokens)
    q = draw(sizes, tokens, sizes.heads, sizes.size)
    k, v = (x[tables[0]].transpose(1, 2).flatten(0, 1)[:tokens].contiguous() for x in (keys, values))
    numbers = [torch.tensor(x, dtype=torch.int32, device=sizes.device) for x in ([0, tokens], [0], [tokens])]
    return Case(
        "paged_prefill",
        f"{tokens}, {sizes.heads} heads",
        lambda: paged_prefill(q, keys, values, tables, *numbers, None),
        lambda: causal_attention(q[None], k[None], v[None])[0],
        4 * nbytes(q),
        2 * tokens * tokens * sizes.heads * sizes.size,
    )


def products(sizes: Sizes, rows: int) -> Iterator[Case]:
    """A linear layer of int4, and what adapters add to one."""
    from byollm.kernels.gpu.lora import lora_grouped
    from byollm.kernels.gpu.packed_linear import packed_linear
    from byollm.kernels.packed import PackedWeight, Scheme
    from byollm.kernels.packed_linear import packed_linear as definition

    hidden, count, rank, scheme = sizes.hidden, 4, 16, Scheme("int4")
    x, shape = draw(sizes, rows, hidden), (sizes.inner, hidden)
    codes = torch.randint(0, 256, scheme.code_shape(shape), dtype=torch.uint8, device=sizes.device)
    scales = torch.rand(scheme.scale_shape(shape), device=sizes.device).to(scheme.scale_dtype) / 50
    packed = PackedWeight(codes, scales, scheme, shape)
    yield Case(
        "packed_linear",
        f"{rows} x {hidden} x {sizes.inner} int4",
        lambda: packed_linear(x, packed),
        lambda: definition(x, packed),
        scheme.nbytes(shape) + rows * (hidden + sizes.inner) * x.element_size(),
    )
    a = draw(sizes, count, 3, rank, hidden) / hidden**0.5
    b = draw(sizes, count, 3 * hidden, rank) / rank
    slots = torch.arange(rows, device=sizes.device) % count
    out = draw(sizes, rows, 3 * hidden)

    def eager() -> Tensor:
        inner = torch.einsum("rlki,ri->rlk", a[slots], x)
        added = torch.einsum("rlok,rlk->rlo", b[slots].view(rows, 3, hidden, rank), inner)
        return out + added.flatten(1)

    yield Case(
        "lora_grouped",
        f"{rows} x {hidden} x 3 x {hidden}, {min(rows, count)} of rank {rank}",
        lambda: lora_grouped(x, a, b, slots, out, (0, hidden, 2 * hidden)),
        eager,
        min(rows, count) * (nbytes(a) + nbytes(b)) // count + nbytes(x) + 2 * nbytes(out),
    )


def sampling(sizes: Sizes, rows: int) -> Iterator[Case]:
    """The choice of tokens, by each kind of parameters."""
    from byollm.engine import SamplingParams
    from byollm.engine.sampler import choose_with_torch
    from byollm.kernels.gpu.sample import sample

    logits = 3 * torch.randn(rows, sizes.vocab, device=sizes.device)
    for kind, params in {
        "greedy": SamplingParams(temperature=0),
        "whole": SamplingParams(),
        "top_k 40, top_p 0.95": SamplingParams(top_k=40, top_p=0.95),
    }.items():
        requests: list[Any] = [SimpleNamespace(params=params, seed=seed) for seed in range(rows)]
        numbers = [
            torch.full((rows,), getattr(params, name), device=sizes.device)
            for name in ("temperature", "top_k", "top_p", "min_p")
        ]
        numbers += [torch.arange(rows, device=sizes.device), torch.full((rows,), 9, device=sizes.device)]
        yield Case(
            "sample",
            f"{rows} x {sizes.vocab}, {kind}",
            lambda numbers=numbers: sample(logits, *numbers),
            lambda requests=requests: torch.tensor(choose_with_torch(logits, requests, [9] * rows)),
            nbytes(logits),
            compiles=False,
        )


def draw(sizes: Sizes, *shape: int) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, device=sizes.device).to(sizes.dtype)


def paged(sizes: Sizes, rows: int, kv_heads: int, length: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Caches, and tables of scattered blocks."""
    each = -(-(length or sizes.context) // 16)
    keys, values = (draw(sizes, rows * each, kv_heads, 16, sizes.size) for _ in range(2))
    return keys, values, torch.randperm(rows * each, device=sizes.device).int().view(rows, each)


def nbytes(x: Tensor) -> int:
    """What a tensor takes in memory."""
    return x.numel() * x.element_size()


def microseconds(call: Call) -> float:
    """The median of runs from a captured graph, or as they are where the host has to wait for the GPU."""
    from triton.testing import do_bench

    graph = torch.cuda.CUDAGraph()
    try:
        for _ in range(3):
            call()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            call()
    except RuntimeError:
        torch.cuda.synchronize()
        return float(1e3 * do_bench(call, return_mode="median"))
    return float(1e3 * do_bench(graph.replay, return_mode="median"))


def measure(case: Case, bandwidth: float, peak: float) -> Measured:
    """Time a case all three ways."""
    ours, eager = microseconds(case.ours), microseconds(case.eager)
    compiled = microseconds(torch.compile(case.eager, dynamic=False)) if case.compiles else None
    share = case.flops / ours / 1e6 / peak if case.flops else case.moved / ours / 1e3 / bandwidth
    return Measured(case.name, case.shape, ours, eager, compiled, case.moved / ours / 1e3, share)


def ceilings() -> tuple[float, float]:
    """GB/s of a copy, read and written, and TFLOP/s of a large product."""
    x = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    y, a = torch.empty_like(x), torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    return 2 * x.numel() / microseconds(lambda: y.copy_(x)) / 1e3, 2 * 8192**3 / microseconds(
        lambda: a @ a
    ) / 1e6


def check() -> None:
    """Run every case once, at small sizes, and hold it against torch."""
    gpu = torch.cuda.is_available()
    if not gpu:
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported
    dtype, device = (torch.bfloat16, "cuda") if gpu else (torch.float32, "cpu")
    for case in cases(Sizes(**SMALL, rows=(1, 3), context=40, prompt=33, dtype=dtype, device=device)):
        expected, actual = case.eager(), case.ours()  # in this order: some of ours work in place
        for x, y in zip(*(t if isinstance(t, tuple) else (t,) for t in (actual, expected)), strict=True):
            torch.testing.assert_close(x.cpu().float(), y.cpu().float(), rtol=2e-2, atol=2e-2)
        print(f"{case.name} ({case.shape}): as torch has it")


def main(
    only: Annotated[str, typer.Option(help="Part of a kernel's name.")] = "",
    tried: Annotated[bool, typer.Option("--check", help="Try each once; nothing is timed.")] = False,
) -> None:
    """Time every GPU kernel beside torch."""
    torch.manual_seed(0)
    if tried:
        check()
        return
    if not torch.cuda.is_available():
        print("bench.kernels needs a GPU, and torch finds none here; --check tries the kernels without one")
        raise typer.Exit(1)
    bandwidth, peak = ceilings()
    gpu = torch.cuda.get_device_name()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    title = f"{gpu}: copies at {bandwidth:,.0f} GB/s, multiplies at {peak:,.0f} TFLOP/s; bfloat16, {commit}"
    table = Table(
        "kernel", "shape", "µs", "GB/s", "share", "eager µs", "compiled µs", "over eager", title=title
    )
    found = []
    for case in cases(STABLELM_3B):
        if only not in case.name:
            continue
        m = measure(case, bandwidth, peak)
        found.append(m)
        compiled = "" if m.compiled is None else f"{m.compiled:,.1f}"
        figures = f"{m.ours:,.1f}", f"{m.gigabytes:,.0f}", f"{m.share:.0%}", f"{m.eager:,.1f}", compiled
        table.add_row(m.name, m.shape, *figures, f"{m.eager / m.ours:.1f}x")
    Console().print(table)
    mean = math.exp(sum(math.log(m.eager / m.ours) for m in found) / max(1, len(found)))
    kernels = [asdict(m) for m in found]
    ceiling = {"copy_gb_s": bandwidth, "tflops": peak}
    print(json.dumps({"gpu": gpu, "commit": commit, **ceiling, "over_eager": mean, "kernels": kernels}))


if __name__ == "__main__":
    typer.run(main)
