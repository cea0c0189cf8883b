"""Activations in Triton against their definitions in torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from byollm.kernels import gelu, swiglu
from byollm.kernels.gpu import activations
from tests.kernels.gpu.support import FEW, Close, Draw


@given(rows=st.integers(1, 5), size=st.integers(1, 600))
@FEW
def test_any_shape(rows: int, size: int, draw: Draw, close: Close) -> None:
    x, up = 3 * draw(rows, size), draw(rows, size, seed=1)
    close(activations.swiglu(x, up), swiglu(x.float(), up.float()))
    close(activations.gelu(x), gelu(x.float()))


def test_halves_of_one_projection_are_taken_where_they_are(draw: Draw, close: Close) -> None:
    both = draw(2, 3, 140)
    gate, up = both.chunk(2, -1)
    actual = activations.swiglu(gate, up)
    assert actual.shape == (2, 3, 70)
    close(actual, swiglu(gate.float(), up.float()))


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
def test_numbers_at_the_ends_of_the_range_stay_finite(draw: Draw, close: Close) -> None:
    x = torch.tensor([[-60000.0, -100, -20, -0.0, 20, 100, 250]]).to(draw(1))
    close(activations.gelu(x), gelu(x.float()))
    close(activations.swiglu(x, torch.ones_like(x)), swiglu(x.float(), torch.ones_like(x).float()))
