"""Attention of prompts over the paged cache, in Triton against the definition in torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from byollm.kernels.gpu.paged_prefill import paged_prefill
from byollm.kernels.paged_attention import paged_prefill as definition
from tests.kernels.gpu.support import FEW, Close, Draw, paged


def check(
    draw: Draw,
    close: Close,
    spans: list[tuple[int, int]],
    kv_heads: int,
    group: int,
    size: int,
    window: int | None,
) -> None:
    """Compare for sequences with (start, rows)."""
    counts = [rows for _, rows in spans]
    lengths = [start + rows for start, rows in spans]
    q = draw(max(1, sum(counts)), kv_heads * group, size)
    keys, values, tables = paged(draw, lengths, kv_heads, size)
    firsts = [sum(counts[:n]) for n in range(len(counts) + 1)]
    numbers = [
        torch.tensor(x, dtype=torch.int32, device=q.device)
        for x in (firsts, [start for start, _ in spans], lengths)
    ]
    actual = paged_prefill(q, keys, values, tables, *numbers, window)
    expected = definition(q.float(), keys.float(), values.float(), tables, *numbers, window)
    assert actual.shape == q.shape
    close(actual[: sum(counts)], expected[: sum(counts)])


@pytest.mark.parametrize(
    ("spans", "kv_heads", "group", "size", "window"),
    [
        ([(0, 70)], 1, 1, 80, None),
        ([(0, 70)], 1, 1, 80, 9),
        ([(0, 5), (37, 30), (16, 1), (90, 2)], 2, 1, 24, None),
        ([(0, 5), (37, 30), (16, 1), (90, 2)], 1, 3, 64, 20),
        ([(100, 3), (60, 4)], 2, 5, 16, None),  # drafts
        ([(0, 20)], 1, 20, 16, 1),
        ([(1, 0)], 1, 1, 16, None),  # nothing to ask
    ],
)
def test_spans_heads_and_windows(
    spans: list[tuple[int, int]],
    kv_heads: int,
    group: int,
    size: int,
    window: int | None,
    draw: Draw,
    close: Close,
) -> None:
    check(draw, close, spans, kv_heads, group, size, window)


@given(
    spans=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 50)), min_size=1, max_size=3),
    group=st.integers(1, 4),
    size=st.integers(1, 40),
    window=st.none() | st.integers(1, 70),
)
@FEW
def test_any_spans(
    spans: list[tuple[int, int]], group: int, size: int, window: int | None, draw: Draw, close: Close
) -> None:
    check(draw, close, spans, 1, group, size, window)


def test_what_is_not_finite_elsewhere_reaches_nobody(draw: Draw, close: Close) -> None:
    q = draw(10, 2, 16)
    keys, values, tables = paged(draw, [20], 1, 16)
    mine = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    mine[tables[0, :2].long()] = True
    keys[~mine], values[~mine] = torch.inf, torch.nan
    last = tables[0, 1]
    keys[last, :, 4:], values[last, :, 4:] = torch.nan, torch.inf
    numbers = [torch.tensor(x, dtype=torch.int32, device=q.device) for x in ([0, 10], [10], [20])]
    expected = definition(q.float(), keys.float(), values.float(), tables, *numbers, None)
    assert expected.isfinite().all()
    close(paged_prefill(q, keys, values, tables, *numbers, None), expected)
