"""What packed weights stand for, number by number."""

import itertools

import pytest
import torch

from byollm.kernels.dequantise import dequantise
from byollm.kernels.packed import NF4_VALUES, PackedWeight, Scheme

SHAPES = [(1, 1), (3, 64), (2, 33), (5, 130), (4, 257)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", [Scheme("int8", 32), Scheme("int4", 64), Scheme("nf4", 64)], ids=str)
def test_every_number_is_its_code_times_its_scale(scheme: Scheme, shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(1)
    low = -127 if scheme.kind == "int8" else 0
    codes = torch.randint(low, 128, scheme.code_shape(shape), generator=draw).to(scheme.code_dtype)
    scales = torch.randn(scheme.scale_shape(shape), generator=draw).to(scheme.scale_dtype)
    found = dequantise(PackedWeight(codes, scales, scheme, shape), torch.float32)
    assert found.shape == shape
    for row, column in itertools.product(range(shape[0]), range(shape[1])):
        if scheme.kind == "int8":
            expected = codes[row, column].float() * scales[row, column // scheme.group].float()
        elif scheme.kind == "int4":
            nibble = codes[row, column // 2].item() >> 4 * (column % 2) & 15
            expected = (nibble - 8) * scales[row, column // scheme.group].float()
        else:
            at = row * shape[1] + column
            nibble = codes[at // 2].item() >> 4 * (1 - at % 2) & 15
            expected = torch.tensor(NF4_VALUES)[int(nibble)] * scales[at // 64]
        assert found[row, column] == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scheme", [Scheme("int8"), Scheme("int4"), Scheme("nf4", 64)], ids=str)
def test_numbers_are_rounded_once(scheme: Scheme, dtype: torch.dtype) -> None:
    codes = torch.arange(256).to(scheme.code_dtype).repeat(scheme.code_shape((4, 256))[-1] // 64)
    shape = (4, 256)
    codes = codes[: torch.Size(scheme.code_shape(shape)).numel()].view(scheme.code_shape(shape))
    scales = torch.linspace(-3, 3, torch.Size(scheme.scale_shape(shape)).numel())
    packed = PackedWeight(codes, scales.view(scheme.scale_shape(shape)).to(scheme.scale_dtype), scheme, shape)
    assert torch.equal(dequantise(packed, dtype), dequantise(packed, torch.float32).to(dtype))


@pytest.mark.parametrize(
    ("kind", "group", "double", "message"),
    [
        ("int3", 128, False, "there is int8, int4 and nf4"),
        ("int4", 48, False, "must be a multiple of 32"),
        ("int8", 0, False, "must be a multiple of 32"),
        ("nf4", 128, False, "nf4 has groups of 64"),
        ("int4", 128, True, "double quantisation is for nf4"),
    ],
)
def test_a_scheme_that_does_not_exist_is_refused(kind: str, group: int, double: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scheme(kind, group, double)  # type: ignore[arg-type]


def test_bytes_are_counted() -> None:
    assert Scheme("int4").nbytes((2560, 6912)) == 2560 * 6912 // 2 + 2 * 2560 * 54
    assert Scheme("int8", 32).nbytes((3, 33)) == 3 * 33 + 2 * 3 * 2
    assert Scheme("nf4", 64).nbytes((3, 43)) == 65 + 4 * 3
