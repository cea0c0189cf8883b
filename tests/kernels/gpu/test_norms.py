"""Norms in Triton against their definitions in torch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("triton")

from byollm.kernels import layer_norm, rms_norm
from byollm.kernels.gpu import norms
from byollm.kernels.layer_norm import add_layer_norm
from byollm.kernels.rms_norm import add_rms_norm
from tests.kernels.gpu.support import FEW, Close, Draw

SHAPES = [(1, 1), (3, 80), (2, 3, 33), (5, 192), (40, 64), (2, 1200)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rms_norm_is_its_definition(shape: tuple[int, ...], draw: Draw, close: Close) -> None:
    x, weight = draw(*shape), draw(shape[-1], seed=1)
    actual = norms.rms_norm(x, weight, 1e-6)
    assert (actual.shape, actual.dtype) == (x.shape, x.dtype)
    close(actual, rms_norm(x.float(), weight.float(), 1e-6))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_layer_norm_is_its_definition(shape: tuple[int, ...], biased: bool, draw: Draw, close: Close) -> None:
    x, weight = 3 + draw(*shape), draw(shape[-1], seed=1)
    bias = draw(shape[-1], seed=2) if biased else None
    expected = layer_norm(x.float(), weight.float(), None if bias is None else bias.float(), 1e-2)
    close(norms.layer_norm(x, weight, bias, 1e-2), expected)


@pytest.mark.parametrize("biased", [True, False])
def test_layer_norm_gives_each_head_its_own_weight(biased: bool, draw: Draw, close: Close) -> None:
    x, weight = draw(7, 3, 20), draw(3, 20, seed=1)
    bias = draw(3, 20, seed=2) if biased else None
    expected = layer_norm(x.float(), weight.float(), None if bias is None else bias.float(), 1e-5)
    close(norms.layer_norm(x, weight, bias, 1e-5), expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_stream_is_added_to_and_normalised_as_it_then_is(
    shape: tuple[int, ...], draw: Draw, close: Close
) -> None:
    x, residual, weight, bias = (
        draw(*shape),
        draw(*shape, seed=3),
        *(draw(shape[-1], seed=i) for i in (1, 2)),
    )
    for actual, expected in (
        (norms.add_rms_norm(x, residual, weight, 1e-2), add_rms_norm(x, residual, weight, 1e-2)),
        (
            norms.add_layer_norm(x, residual, weight, bias, 1e-2),
            add_layer_norm(x, residual, weight, bias, 1e-2),
        ),
    ):
        assert actual[1].equal(expected[1])  # one addition, rounded once
        close(actual[0], expected[0])


@given(rows=st.integers(1, 40), size=st.integers(1, 300))
@FEW
def test_rows_of_any_number_and_size(rows: int, size: int, draw: Draw, close: Close) -> None:
    x, weight = draw(rows, size), draw(size, seed=1)
    close(norms.rms_norm(x, weight, 1e-6), rms_norm(x.float(), weight.float(), 1e-6))


def test_rows_may_lie_apart(draw: Draw, close: Close) -> None:
    wide, weight = draw(6, 100), draw(40, seed=1)
    part = wide[:, 30:70]
    close(norms.rms_norm(part, weight, 1e-6), rms_norm(part.float(), weight.float(), 1e-6))
