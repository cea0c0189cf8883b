"""Queries and keys made ready and kept, in Triton against the definition in torch."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from byollm.kernels.gpu.rotary_and_store import rotary_and_store
from byollm.kernels.rotary_and_store import rotary_and_store as definition
from tests.kernels.gpu.support import FEW, Close, Draw

PAGE, BLOCKS, POSITIONS = 16, 5, 50


def check(
    draw: Draw,
    close: Close,
    tokens: int,
    heads: int,
    kv_heads: int,
    size: int,
    pairs: int,
    norm: str | None,
    per_head: bool,
) -> None:
    """Compare queries and both caches; q, k and v are views of one tensor, as the runner makes them."""
    fused = draw(tokens, heads + 2 * kv_heads, size)
    wide = fused.float()
    angles = torch.outer(torch.arange(POSITIONS), 1 / 100 ** (torch.arange(pairs) / max(pairs, 1)))
    cos, sin = (table.to(fused.device) for table in (angles.cos(), angles.sin()))
    generator = torch.Generator().manual_seed(tokens)
    positions = torch.randint(0, POSITIONS, (tokens,), generator=generator).to(fused.device)
    slots = torch.randperm(BLOCKS * PAGE, generator=generator)[:tokens].to(fused.device)
    slots[::3] = -1
    caches = [draw(BLOCKS, kv_heads, PAGE, size, seed=seed) for seed in (1, 2)]
    expected_caches = [cache.float() for cache in caches]
    arguments: dict[str, Any] = {"eps": 1e-6}
    if norm is not None:
        shapes = ((heads, size), (kv_heads, size)) if per_head else ((size,), (size,))
        arguments |= {"norm": norm, "q_norm": draw(*shapes[0], seed=3), "k_norm": draw(*shapes[1], seed=4)}
    tables = (cos, sin) if pairs else (None, None)
    q, k, v = fused.split((heads, kv_heads, kv_heads), dim=1)
    actual = rotary_and_store(q, k, v, *tables, positions, slots, *caches, **arguments)
    assert actual is q
    q, k, v = wide.split((heads, kv_heads, kv_heads), dim=1)
    arguments = {name: x.float() if isinstance(x, Tensor) else x for name, x in arguments.items()}
    close(actual, definition(q, k, v, *tables, positions, slots, *expected_caches, **arguments))
    for cache, expected in zip(caches, expected_caches, strict=True):
        close(cache, expected)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "pairs", "norm", "per_head"),
    [
        (4, 4, 80, 10, None, False),  # StableLM: a quarter of each head turns
        (4, 2, 80, 10, "layer", True),
        (3, 1, 64, 32, "rms", False),  # Qwen3
        (4, 2, 16, 8, None, False),  # Llama
        (2, 2, 24, 0, None, False),  # GPT-2: nothing turns
        (5, 1, 6, 1, "layer", False),
    ],
)
def test_families(
    heads: int,
    kv_heads: int,
    size: int,
    pairs: int,
    norm: str | None,
    per_head: bool,
    draw: Draw,
    close: Close,
) -> None:
    check(draw, close, 4, heads, kv_heads, size, pairs, norm, per_head)


@given(
    tokens=st.integers(1, 4),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    half=st.integers(1, 20),
    turned=st.floats(0, 1),
    norm=st.sampled_from([None, "rms", "layer"]),
)
@FEW
def test_any_shape(
    tokens: int,
    kv_heads: int,
    group: int,
    half: int,
    turned: float,
    norm: str | None,
    draw: Draw,
    close: Close,
) -> None:
    check(
        draw,
        close,
        tokens,
        kv_heads * group,
        kv_heads,
        2 * half,
        int(half * turned),
        norm,
        norm == "layer" and group % 2 == 0,
    )


def test_tokens_without_a_slot_leave_the_cache_alone(draw: Draw) -> None:
    q, k, v = draw(3, 2, 8), draw(3, 1, 8, seed=1), draw(3, 1, 8, seed=2)
    keys, values = draw(2, 1, PAGE, 8, seed=3), draw(2, 1, PAGE, 8, seed=4)
    before = keys.clone(), values.clone()
    nowhere = torch.full((3,), -1, device=q.device)
    rotary_and_store(q, k, v, None, None, nowhere + 1, nowhere, keys, values)
    assert keys.equal(before[0])
    assert values.equal(before[1])
