"""Weights into few bits: any shape, by rounding, and GPTQ against it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from byollm.kernels import dequantise
from byollm.kernels.packed import PackedWeight, Scheme
from byollm.modeling.errors import QuantisationError
from byollm.modeling.quantise import quantise

SCHEMES = [Scheme("int8"), Scheme("int8", 32), Scheme("int4"), Scheme("int4", 32), Scheme("nf4", 64)]


def assert_in_format(packed: PackedWeight) -> None:
    codes, scales, scheme, shape = packed
    assert (codes.shape, codes.dtype) == (scheme.code_shape(shape), scheme.code_dtype)
    assert (scales.shape, scales.dtype) == (scheme.scale_shape(shape), scheme.scale_dtype)
    assert codes.is_contiguous()
    assert scales.isfinite().all()
    if scheme.kind == "int8":
        assert codes.min() >= -127
    elif scheme.kind == "int4" and shape[1] % 2:
        assert (codes[:, -1] >> 4 == 8).all()


def error(packed: PackedWeight, weight: Tensor, inputs: Tensor) -> float:
    """How far the outputs are off, as a share of their size."""
    exact = inputs @ weight.T
    return float((inputs @ dequantise(packed, torch.float32).T - exact).norm() / exact.norm())


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 300),
    scheme=st.sampled_from(SCHEMES),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    magnitude=st.integers(-30, 30),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_no_weight_moves_further_than_half_a_step_of_its_group(
    rows: int, columns: int, scheme: Scheme, dtype: torch.dtype, magnitude: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    size = 2.0 ** (magnitude if dtype != torch.float16 else magnitude // 4)
    weight = (torch.randn(rows, columns, generator=draw) * size).to(dtype)
    packed = quantise(weight, scheme)
    assert_in_format(packed)
    weight = weight.float()
    moved = (dequantise(packed, torch.float32) - weight).abs()
    if scheme.kind == "nf4":
        step = packed.scales.repeat_interleave(64)[: rows * columns].view(rows, columns) * 0.3039
    else:
        step = packed.scales.float().abs().repeat_interleave(scheme.group, 1)[:, :columns]
    # What is clipped moves further: in 4 bits by what lies beyond 7 (or 8) steps, at most.
    limit = 7.5 if scheme.kind == "int4" else torch.inf
    clipped = (weight.abs() - limit * step).clamp(min=0) + step if scheme.kind == "int4" else 0
    assert (moved <= step * 0.501 + clipped).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_zeros_and_what_is_nearly_nothing_stay_so(scheme: Scheme) -> None:
    weight = torch.zeros(3, 200)
    weight[1] = 1e-42
    weight[2, 7] = 3.0
    found = dequantise(quantise(weight, scheme), torch.float32)
    torch.testing.assert_close(found, weight, rtol=4e-3, atol=1e-40)


def test_integers_and_their_scale_are_found_again() -> None:
    integers = torch.randint(-8, 8, (7, 257), generator=torch.Generator().manual_seed(0)).float()
    integers[:, ::32] = -8
    scales = torch.tensor([[0.5], [-0.25], [2.0], [1.0], [0.125], [-4.0], [1.5]])
    for group in (32, 64, 128):
        found = quantise(integers * scales, Scheme("int4", group))
        assert torch.equal(dequantise(found, torch.float32), integers * scales)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    weight = torch.randn(3000, 130, generator=torch.Generator().manual_seed(0))  # more than one chunk
    whole, alone = quantise(weight, Scheme("int4")), quantise(weight[2222:2223], Scheme("int4"))
    assert torch.equal(whole.codes[2222:2223], alone.codes)
    assert torch.equal(whole.scales[2222:2223], alone.scales)


def test_clipping_the_furthest_weight_a_little_beats_rounding() -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    packed = quantise(weight, Scheme("int4"))
    groups = weight.view(64, 4, 128)
    furthest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scales = (furthest / -8).bfloat16().float()
    rounded = ((groups / scales).round().clamp(-8, 7) * scales).view(64, 512)
    assert (dequantise(packed, torch.float32) - weight).norm() < 0.99 * (rounded - weight).norm()


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 200),
    scheme=st.sampled_from([s for s in SCHEMES if s.kind != "nf4"]),
    seen=st.integers(0, 400),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_gptq_takes_any_shape_and_any_inputs(
    rows: int, columns: int, scheme: Scheme, seen: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    inputs = torch.randn(seen, columns, generator=draw)
    inputs[:, columns // 2 :: 3] = 0  # channels that are never used
    packed = quantise(weight, scheme, inputs.T @ inputs)
    assert_in_format(packed)
    assert (dequantise(packed, torch.float32) - weight).abs().max() < 3 * weight.abs().max()


@pytest.mark.parametrize("scheme", [Scheme("int8"), Scheme("int4"), Scheme("int4", 32)], ids=str)
def test_gptq_leaves_less_error_in_the_outputs_than_rounding(scheme: Scheme) -> None:
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(60, 300, generator=draw)
    inputs = torch.randn(2000, 60, generator=draw) @ torch.randn(60, 300, generator=draw)
    inputs = inputs + 0.3 * torch.randn(2000, 300, generator=draw)
    seen, unseen = inputs[:1500], inputs[1500:]
    with_inputs = quantise(weight, scheme, seen.T @ seen)
    assert error(with_inputs, weight, unseen) < 0.6 * error(quantise(weight, scheme), weight, unseen)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused(scheme: Scheme, bad: float) -> None:
    weight = torch.ones(3, 70)
    weight[1, 69] = bad
    with pytest.raises(QuantisationError, match="not finite"):
        quantise(weight, scheme)


def test_inputs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(QuantisationError, match="hidden states of the calibration text are not finite"):
        quantise(torch.ones(3, 70), Scheme("int4"), torch.full((70, 70), torch.nan))


def test_nf4_is_not_calibrated() -> None:
    with pytest.raises(QuantisationError, match="without calibration"):
        quantise(torch.ones(3, 64), Scheme("nf4", 64), torch.eye(64))
