import pytest
import torch

from byollm.kernels import layer_norm, rms_norm

SHAPES = [(1,), (3, 7), (2, 5, 3, 33)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rms_norm_is_its_formula(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight = torch.randn(shape).to(dtype), torch.randn(shape[-1]).to(dtype)
    wide = x.double()
    expected = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    actual = rms_norm(x, weight, 1e-6)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual, expected.to(dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_norm_is_its_formula(shape: tuple[int, ...], with_bias: bool) -> None:
    x, weight = torch.randn(shape), torch.randn(shape[-1])
    bias = torch.randn(shape[-1]) if with_bias else None
    wide = x.double()
    centred = wide - wide.mean(-1, keepdim=True)
    expected = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    expected = expected if bias is None else expected + bias
    torch.testing.assert_close(layer_norm(x, weight, bias, 1e-5), expected.float(), atol=1e-5, rtol=1e-5)


def test_layer_norm_gives_each_head_its_own_weight() -> None:
    x, weight, bias = torch.randn(2, 5, 3, 8), torch.randn(3, 8), torch.randn(3, 8)
    heads = [layer_norm(x[:, :, head], weight[head], bias[head], 1e-5) for head in range(3)]
    torch.testing.assert_close(layer_norm(x, weight, bias, 1e-5), torch.stack(heads, dim=2))


def test_norms_keep_narrow_activations_narrow_beside_wide_weights() -> None:
    x = torch.randn(4, 8).bfloat16()
    assert rms_norm(x, torch.ones(8), 1e-6).dtype == torch.bfloat16
    assert layer_norm(x, torch.ones(8), torch.zeros(8), 1e-5).dtype == torch.bfloat16
