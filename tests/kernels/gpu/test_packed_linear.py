from itertools import product

import pytest
import torch
from torch import Tensor

from byollm.kernels.dequantise import dequantise as plain_dequantise
from byollm.kernels.gpu.dequantise import dequantise
from byollm.kernels.gpu.packed_linear import default, packed_linear
from byollm.kernels.gpu.tuning import bucket, key, using
from byollm.kernels.packed import PackedWeight, Scheme
from byollm.kernels.packed_linear import packed_linear as plain_linear

SCHEMES = [Scheme("int4"), Scheme("int4", 32), Scheme("int4", 96), Scheme("int8"), Scheme("nf4", 64)]
SHAPES = [(70, 192), (33, 63), (5, 1)]
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
BOUNDS = {torch.float16: 4e-3, torch.float32: 1e-5} | ({torch.bfloat16: 3e-2} if GPU else {})


def pack(scheme: Scheme, shape: tuple[int, int]) -> PackedWeight:
    """Random codes and scales, some of them negative."""
    torch.manual_seed(0)
    low, high = (-127, 128) if scheme.kind == "int8" else (0, 256)
    codes = torch.randint(low, high, scheme.code_shape(shape), dtype=scheme.code_dtype)
    scales = (torch.rand(scheme.scale_shape(shape)) - 0.3).to(scheme.scale_dtype) * 0.05
    return PackedWeight(codes.to(DEVICE), scales.to(DEVICE), scheme, shape)


def check(x: Tensor, packed: PackedWeight, bias: Tensor | None) -> None:
    x, bias = x.to(DEVICE), None if bias is None else bias.to(DEVICE)
    got, expected = packed_linear(x, packed, bias), plain_linear(x, packed, bias)
    assert got.dtype == x.dtype
    assert got.shape == expected.shape
    error = (got.float() - expected.float()).abs().max() / expected.float().abs().max()
    assert error < BOUNDS[x.dtype]


@pytest.mark.parametrize(("scheme", "shape"), product(SCHEMES, SHAPES), ids=str)
def test_weight_is_unpacked_to_the_same_numbers(scheme: Scheme, shape: tuple[int, int]) -> None:
    packed = pack(scheme, shape)
    for dtype in BOUNDS:
        assert torch.equal(dequantise(packed, dtype), plain_dequantise(packed, dtype))


@pytest.mark.parametrize(("scheme", "shape"), product(SCHEMES, SHAPES), ids=str)
def test_product_is_that_of_the_unpacked_weight(scheme: Scheme, shape: tuple[int, int]) -> None:
    packed = pack(scheme, shape)
    for rows, dtype in zip((1, 17, 40), BOUNDS, strict=False):
        check(torch.randn(rows, shape[1]).to(dtype), packed, torch.randn(shape[0]).to(dtype))


@pytest.mark.parametrize("split", [1, 2, 4])
@pytest.mark.parametrize("kind", ["int4", "int8"])
def test_sum_may_be_shared_by_programs_that_have_nothing_left_to_do(kind: str, split: int) -> None:
    packed = pack(Scheme(kind, 32), (40, 75))  # type: ignore[arg-type]
    config = default(4, 40, 75, 32) | {"SPLIT": split}
    with using({key(f"packed_linear_{kind}", 4, 40, 75, 32): config}):
        check(torch.randn(3, 75), packed, torch.randn(40))
        check(torch.randn(2, 2, 75).half(), packed, None)


@pytest.mark.parametrize("kind", ["int4", "int8", "nf4"])
def test_product_of_many_rows_is_that_of_the_unpacked_weight_too(kind: str) -> None:
    packed = pack(Scheme(kind, 64), (33, 128))  # type: ignore[arg-type]
    check(torch.randn(130, 128), packed, torch.randn(33))


def test_no_rows_give_no_rows() -> None:
    packed = pack(Scheme("int4"), (40, 75))
    assert packed_linear(torch.zeros(0, 75), packed).shape == (0, 40)


@pytest.mark.parametrize("group", [32, 96, 128, 256])
@pytest.mark.parametrize("rows", [1, 16, 32, 64, 128, 512])
def test_every_configuration_keeps_a_tile_within_a_group(rows: int, group: int) -> None:
    assert bucket(rows) == rows
    config = default(rows, 2560, 6912, group)
    assert ("DENSE" in config) == (rows > 128)
    assert "DENSE" in config or (group % config["BLOCK_K"] == 0 and config["BLOCK_M"] >= 16)
