"""NF4 against bitsandbytes itself."""

import bitsandbytes.functional as bnb
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byollm.kernels import dequantise
from byollm.kernels.packed import NF4_VALUES, Scheme
from byollm.modeling.nf4 import _dynamic_map
from byollm.modeling.quantise import quantise

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@given(
    rows=st.integers(2, 70),  # a single code is transposed there
    columns=st.integers(1, 65).map(lambda half: 2 * half),  # for odd ones bitsandbytes compiles for seconds
    dtype=st.sampled_from(DTYPES),
    size=st.sampled_from([1e-4, 0.02, 1.0, 300.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_codes_scales_and_numbers_are_those_of_bitsandbytes(
    rows: int, columns: int, dtype: torch.dtype, size: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = (torch.randn(rows, columns, generator=draw) * size).to(dtype)
    weight[rows // 2] = 0
    codes, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    packed = quantise(weight, Scheme("nf4", 64))
    assert torch.equal(packed.codes, codes.flatten())
    # It floors the scale of a short last group.
    torch.testing.assert_close(packed.scales, state.absmax, rtol=0, atol=1e-37)
    assert torch.equal(dequantise(packed, dtype), bnb.dequantize_4bit(codes, state))


@pytest.mark.usefixtures("double_quantisation_as_on_gpus")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1000, 640), (96, 64), (1003, 66)])
def test_double_quantisation_is_that_of_bitsandbytes(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = (torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.1).to(dtype)
    codes, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=True)
    packed = quantise(weight, Scheme("nf4", 64, double=True))
    assert torch.equal(packed.codes, codes.flatten())
    assert torch.equal(packed.scales, bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset)
    assert torch.equal(dequantise(packed, dtype), bnb.dequantize_4bit(codes, state))


def test_the_tables_are_those_of_bitsandbytes() -> None:
    assert torch.equal(torch.tensor(NF4_VALUES), bnb.get_4bit_type("nf4", device="cpu"))
    assert torch.equal(_dynamic_map(), bnb.create_dynamic_map())
