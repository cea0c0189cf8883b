"""Adapters over mixed rows, in Triton against the definition in torch."""

from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from byollm.kernels.gpu.lora import lora_grouped
from byollm.kernels.lora_grouped import lora_grouped as definition
from tests.kernels.gpu.support import FEW, Close, Draw


def check(draw: Draw, close: Close, slots: list[int], inputs: int, widths: list[int], rank: int) -> None:
    outputs, starts = sum(widths), [0, *accumulate(widths)][:-1]
    x, wide = draw(len(slots), inputs), draw(len(slots), outputs + 5, seed=1)
    a = draw(3, len(widths), rank, inputs, seed=2) / inputs**0.5
    b = draw(3, outputs, rank, seed=3) / rank**0.5
    before, expected = wide.clone(), wide.float()
    out = wide[:, 2 : 2 + outputs]  # rows may lie apart
    rows = torch.tensor(slots, device=x.device)
    definition(x.float(), a.float(), b.float(), rows, expected[:, 2 : 2 + outputs], starts)
    assert lora_grouped(x, a, b, rows, out, starts) is out
    close(wide, expected)
    base = rows < 0
    assert wide[base].equal(before[base])
    assert wide[:, :2].equal(before[:, :2])
    assert wide[:, 2 + outputs :].equal(before[:, 2 + outputs :])


@pytest.mark.parametrize(
    ("slots", "inputs", "widths", "rank"),
    [
        ([0, 2, -1, 2, 0], 192, [70, 20, 20], 16),
        ([-1, -1], 20, [20, 7], 16),
        ([1] * 20 + [0], 130, [3, 30], 32),
        ([2], 1100, [10], 128),
    ],
)
def test_mixed_rows(
    slots: list[int], inputs: int, widths: list[int], rank: int, draw: Draw, close: Close
) -> None:
    check(draw, close, slots, inputs, widths, rank)


@given(
    slots=st.lists(st.integers(-1, 2), min_size=1, max_size=20),
    inputs=st.integers(1, 200),
    widths=st.lists(st.integers(1, 100), min_size=1, max_size=3),
)
@FEW
def test_any_shape(slots: list[int], inputs: int, widths: list[int], draw: Draw, close: Close) -> None:
    check(draw, close, slots, inputs, widths, 16)
