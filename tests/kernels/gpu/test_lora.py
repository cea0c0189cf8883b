"""Adapters over mixed rows, in Triton against the definition in torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from byollm.kernels.gpu.lora import lora_grouped
from byollm.kernels.lora_grouped import lora_grouped as definition
from tests.kernels.gpu.support import FEW, Close, Draw


def check(draw: Draw, close: Close, slots: list[int], inputs: int, outputs: int, rank: int) -> None:
    x, fused = draw(len(slots), inputs), draw(len(slots), outputs + 5, seed=1)
    a, b = draw(3, rank, inputs, seed=2) / inputs**0.5, draw(3, outputs, rank, seed=3) / rank**0.5
    before, expected = fused.clone(), fused.float()
    out = fused[:, 2 : 2 + outputs]  # the part of a fused layer that the adapter changes
    rows = torch.tensor(slots, device=x.device)
    definition(x.float(), a.float(), b.float(), rows, expected[:, 2 : 2 + outputs])
    assert lora_grouped(x, a, b, rows, out) is out
    close(fused, expected)
    base = rows < 0
    assert fused[base].equal(before[base])
    assert fused[:, :2].equal(before[:, :2])
    assert fused[:, 2 + outputs :].equal(before[:, 2 + outputs :])


@pytest.mark.parametrize(
    ("slots", "inputs", "outputs", "rank"),
    [
        ([0, 2, -1, 2, 0], 192, 70, 16),
        ([-1, -1], 20, 20, 4),
        ([1] * 20 + [0], 130, 30, 5),
        ([2], 1100, 10, 100),
    ],
)
def test_mixed_rows(slots: list[int], inputs: int, outputs: int, rank: int, draw: Draw, close: Close) -> None:
    check(draw, close, slots, inputs, outputs, rank)


@given(
    slots=st.lists(st.integers(-1, 2), min_size=1, max_size=20),
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 100),
    rank=st.integers(1, 20),
)
@FEW
def test_any_shape(slots: list[int], inputs: int, outputs: int, rank: int, draw: Draw, close: Close) -> None:
    check(draw, close, slots, inputs, outputs, rank)
