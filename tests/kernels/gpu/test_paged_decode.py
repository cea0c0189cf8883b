"""Decoding over the paged cache, in Triton against the definition in torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from byollm.kernels import causal_attention
from byollm.kernels.gpu.paged_decode import paged_decode
from byollm.kernels.paged_attention import paged_decode as definition
from tests.kernels.gpu.support import FEW, Close, Draw, paged


def check(
    draw: Draw,
    close: Close,
    lengths: list[int],
    kv_heads: int,
    group: int,
    size: int,
    window: int | None,
    splits: int | None,
) -> None:
    q = draw(len(lengths), kv_heads * group, size)
    keys, values, tables = paged(draw, lengths, kv_heads, size)
    counts = torch.tensor(lengths, dtype=torch.int32, device=q.device)
    expected = definition(q.float(), keys.float(), values.float(), tables, counts, window)
    close(paged_decode(q, keys, values, tables, counts, window, splits), expected)


@pytest.mark.parametrize(
    ("kv_heads", "group", "size", "window", "splits"),
    [
        (2, 1, 80, None, 3),
        (2, 1, 80, 20, 1),
        (1, 3, 64, None, 1),
        (1, 3, 64, 1, 2),
        (2, 2, 16, 50, None),
        (1, 20, 24, None, None),
    ],
)
def test_shapes_of_heads_windows_and_splits(
    kv_heads: int, group: int, size: int, window: int | None, splits: int | None, draw: Draw, close: Close
) -> None:
    check(draw, close, [1, 131], kv_heads, group, size, window, splits)


@given(
    lengths=st.lists(st.integers(0, 150), min_size=1, max_size=2),
    group=st.integers(1, 4),
    size=st.integers(1, 40),
    window=st.none() | st.integers(1, 160),
    splits=st.none() | st.integers(1, 5),
)
@FEW
def test_any_lengths(
    lengths: list[int],
    group: int,
    size: int,
    window: int | None,
    splits: int | None,
    draw: Draw,
    close: Close,
) -> None:
    check(draw, close, lengths, 1, group, size, window, splits)


def test_sequence_without_positions_gets_zeros(draw: Draw) -> None:
    keys, values, tables = paged(draw, [20], 1, 16)
    none = torch.zeros(1, dtype=torch.int32, device=keys.device)
    for group in (1, 2):
        for splits in (1, 2):
            out = paged_decode(draw(1, group, 16), keys, values, tables, none, None, splits)
            assert out.eq(0).all()


@pytest.mark.parametrize("group", [1, 2])
def test_what_is_not_finite_in_other_blocks_reaches_nobody(group: int, draw: Draw, close: Close) -> None:
    q = draw(1, group, 16)
    keys, values, tables = paged(draw, [20], 1, 16)
    mine = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    mine[tables[0, :2].long()] = True
    keys[~mine], values[~mine] = torch.inf, torch.nan
    last = tables[0, 1]
    keys[last, :, 4:], values[last, :, 4:] = torch.nan, torch.inf
    counts = torch.tensor([20], dtype=torch.int32, device=q.device)
    expected = definition(q.float(), keys.float(), values.float(), tables, counts, None)
    assert expected.isfinite().all()
    close(paged_decode(q, keys, values, tables, counts, None, 2), expected)


def test_definition_is_attention_as_training_computes_it() -> None:
    generator = torch.Generator().manual_seed(0)
    time, kv_heads, heads, size = 40, 2, 6, 8
    q, k, v = (torch.randn(time, n, size, generator=generator) for n in (heads, kv_heads, kv_heads))
    keys, values = (fill(x) for x in (k, v))
    tables = torch.tensor([[2, 0, 1]], dtype=torch.int32)
    for window in (None, 7):
        out = definition(q[-1:], keys, values, tables, torch.tensor([time]), window)
        torch.testing.assert_close(out[0], causal_attention(q, k, v, window)[-1])


def fill(x: Tensor) -> Tensor:
    """Lay (time, heads, size) out as a cache whose blocks 2, 0, 1 hold it in order."""
    padded = torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 48 - len(x)))
    return padded.view(3, 16, *x.shape[1:]).transpose(1, 2)[[1, 2, 0]].contiguous()
